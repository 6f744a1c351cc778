import numpy as np
import pytest
from scipy.stats import wilcoxon

from reclmis.evaluation.scores import Evaluation, ImageScore
from reclmis.evaluation.statistics import bootstrap, compare


def score(name, both, ours=100, truth=100, patient=None, surfaces=None, size=(20, 20)):
    """With 100 pixels in prediction and truth, Dice is the percentage in both."""
    return ImageScore(name, patient, "note", size, ((both, ours, truth),), 1, surfaces)


def drawn(seed, count, patients=None, spread=0.0):
    """Images whose Dice is 0.6 on average; images of a patient share `spread` of their deviation."""
    draw = np.random.default_rng(seed)
    own = draw.normal(0, 15, count)
    groups = np.arange(count) % (patients or count)
    shared = draw.normal(0, 15, count)[groups]
    percents = np.clip(60 + (1 - spread) * own + spread * shared, 0, 100).round().astype(int)
    return Evaluation(
        tuple(score(f"{i:03d}", int(p), patient=f"p{g}") for i, (p, g) in enumerate(zip(percents, groups, strict=True)))
    )


def test_figures_that_never_change_have_no_width():
    same = Evaluation(tuple(score(str(i), 50) for i in range(5)))
    found = bootstrap(same, resamples=50)
    assert set(found.intervals) == set(same.summary()) - {"images"}
    for name, interval in found.intervals.items():
        assert (interval.low, interval.high) == (interval.estimate, interval.estimate), name


def test_two_images_by_hand():
    """Of two images a draw has the first twice (1/4), both (1/2), or the second twice (1/4): Dice per image 1, 0.5, 0;
    pooled 1, 20 / 120, 0."""
    two = Evaluation((score("a", 10, 10, 10), score("b", 0, 50, 50)))
    found = bootstrap(two, resamples=400, level=0.9)
    assert found.clusters == 2 and found.patients == 0
    per_image, pooled = found.intervals["dice_per_image"], found.intervals["dice_pooled"]
    assert (per_image.low, per_image.estimate, per_image.high) == (0, 0.5, 1)
    assert (pooled.low, pooled.estimate, pooled.high) == (0, pytest.approx(20 / 120), 1)
    narrow = bootstrap(two, resamples=400, level=0.2).intervals["dice_pooled"]
    assert narrow.low == narrow.high == pytest.approx(20 / 120)


def test_empty_masks_in_a_draw_follow_the_policy():
    found = bootstrap(Evaluation((score("a", 0, 0, 0), score("b", 0, 0, 9))), resamples=100, level=0.9).intervals
    assert all((found[f"{name}_pooled"].low, found[f"{name}_pooled"].high) == (0, 1) for name in ("dice", "precision"))


def test_equal_seeds_equal_intervals_and_the_order_does_not_matter():
    evaluation = drawn(0, 40)
    turned = Evaluation(tuple(reversed(evaluation.images)))
    assert bootstrap(evaluation, seed=3, resamples=200) == bootstrap(turned, seed=3, resamples=200)
    other = bootstrap(evaluation, seed=4, resamples=200)
    assert bootstrap(evaluation, seed=3, resamples=200).intervals != other.intervals


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    """160 sets of 60 images from one distribution of mean 0.6."""
    inside = {"dice_per_image": 0, "dice_pooled": 0}
    for seed in range(160):
        intervals = bootstrap(drawn(seed, 60), resamples=200, seed=seed).intervals
        for name in inside:
            inside[name] += intervals[name].low <= 0.6 <= intervals[name].high
    assert all(0.89 <= count / 160 <= 0.99 for count in inside.values()), inside


def test_patients_that_repeat_make_intervals_wider():
    evaluation = drawn(1, 120, patients=12, spread=0.9)
    clustered, naive = bootstrap(evaluation), bootstrap(evaluation, by_patient=False)
    assert (clustered.clusters, clustered.patients, naive.clusters, naive.patients) == (12, 12, 120, 0)
    for name in ("dice_per_image", "iou_pooled"):
        wide, narrow = (found.intervals[name].high - found.intervals[name].low for found in (clustered, naive))
        assert wide > 1.5 * narrow, name
        assert clustered.intervals[name].estimate == naive.intervals[name].estimate


def test_a_patient_is_not_mixed_up_with_an_image_of_that_name():
    evaluation = Evaluation((score("p", 10), score("b", 20, patient="p"), score("c", 30, patient="p")))
    found = bootstrap(evaluation, resamples=10)
    assert (found.clusters, found.patients) == (2, 1)


def test_a_comparison_by_hand():
    ours = Evaluation(tuple(score(str(i), value) for i, value in enumerate([60, 70, 80, 50])))
    theirs = Evaluation(tuple(score(str(i), value) for i, value in enumerate([50, 70, 70, 60])))
    found = compare(ours, theirs, resamples=500).differences
    dice = found["dice_per_image"]
    assert (dice.first, dice.second) == (pytest.approx(0.65), pytest.approx(0.625))
    assert (dice.wins, dice.ties, dice.losses) == (2, 1, 1)
    assert dice.difference.estimate == pytest.approx(0.025)
    assert -0.1 <= dice.difference.low < 0.025 < dice.difference.high <= 0.1
    assert dice.p == pytest.approx(wilcoxon([0.1, 0.0, 0.1, -0.1]).pvalue)
    assert found["dice_pooled"].difference.estimate == pytest.approx(0.025) and found["dice_pooled"].p is None


def test_a_model_against_itself():
    evaluation = drawn(0, 20)
    for difference in compare(evaluation, evaluation, resamples=20).differences.values():
        assert (difference.difference.low, difference.difference.high, difference.p in (1.0, None)) == (0, 0, True)


def test_less_distance_is_better():
    near = Evaluation(tuple(score(str(i), 50, surfaces=((1.0, 0.5),)) for i in range(6)))
    far = Evaluation(tuple(score(str(i), 50, surfaces=((3.0, 1.5 + i),)) for i in range(6)))
    found = compare(near, far, resamples=20).differences["hd95_per_image"]
    assert (found.wins, found.losses, found.difference.estimate) == (6, 0, -2.0)
    without = Evaluation(tuple(score(str(i), 50) for i in range(6)))
    assert "hd95_per_image" not in compare(near, without, resamples=20).differences


def test_the_test_counts_a_patient_once():
    """Ten images of one patient are one pair; of ten patients they are ten."""

    def pair(patient):
        return [
            Evaluation(tuple(score(str(i), value + i, patient=patient(i)) for i in range(10))) for value in (60, 50)
        ]  # fmt: skip

    one, ten = compare(*pair(lambda i: "p"), resamples=10), compare(*pair(str), resamples=10)
    assert one.differences["dice_per_image"].p == 1.0 and ten.differences["dice_per_image"].p < 0.01
    assert one.clusters == 1 and ten.clusters == 10


def test_what_cannot_be_compared_is_named():
    ours = Evaluation((score("a", 5), score("b", 5)))
    with pytest.raises(ValueError, match="only the first has 'b'; only the second has 'c'"):
        compare(ours, Evaluation((score("a", 5), score("c", 5))))
    with pytest.raises(ValueError, match="'a', 'b', 'x0', 'x1', 'x2' and 5 more"):
        compare(Evaluation((*ours.images, *(score(f"x{i}", 5) for i in range(8)))), Evaluation((score("c", 5),)))
    with pytest.raises(ValueError, match="'b' was scored against another mask"):
        compare(ours, Evaluation((score("a", 5), score("b", 5, truth=99))))
    with pytest.raises(ValueError, match="'a' was scored against another mask, or at another size"):
        compare(ours, Evaluation((score("a", 5, size=(10, 40)), score("b", 5))))
    with pytest.raises(ValueError, match="`scored_at` is 'native' and 'model'"):
        compare(ours, Evaluation(ours.images, scored_at="model"))
    with pytest.raises(ValueError, match="`level`.*95"):
        bootstrap(ours, level=95)
    with pytest.raises(ValueError, match="`resamples`"):
        compare(ours, ours, resamples=0)
