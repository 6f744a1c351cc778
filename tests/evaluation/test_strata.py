import pytest

from reclmis.evaluation.scores import Evaluation, ImageScore
from reclmis.evaluation.strata import by_areas, by_quartile, by_size, strata


def score(name, truth, areas, both=None, size=(10, 100)):
    """An image of 1000 pixels whose prediction is as large as its truth."""
    return ImageScore(name, None, "note", size, ((truth if both is None else both, truth, truth),), areas)


# Shares 0, 0.5 %, 1 %, 4.9 %, 5 %, 15 % and 100 %.
SET = Evaluation(
    (
        score("nothing", 0, 0),
        score("half", 5, 1, both=0),
        score("one", 10, 1),
        score("almost five", 49, 2),
        score("five", 50, 4),
        score("fifteen", 150, 9, both=75),
        score("all", 1000, 12),
    )
)


def ids(strata):
    return {stratum.name: stratum.part and set(stratum.part.ids) for stratum in strata}


def test_bounds_of_sizes():
    assert ids(by_size(SET)) == {
        "empty": {"nothing"},
        "tiny": {"half"},
        "small": {"one", "almost five"},
        "medium": {"five"},
        "large": {"fifteen", "all"},
    }
    large = by_size(SET)[-1]
    assert large.bounds == "15 % or more of the image" and large.to_dict()["images"] == 2
    # 0.5 and 1; pooled 2 * 1075 / 2300
    assert large.to_dict()["dice_per_image"] == pytest.approx(0.75)
    assert large.to_dict()["dice_pooled"] == pytest.approx(2150 / 2300)


def test_a_size_that_no_image_has_is_said():
    found = by_size(Evaluation((score("one", 10, 1),)))
    assert [stratum.to_dict()["images"] for stratum in found] == [0, 0, 1, 0, 0]
    assert found[-1].to_dict() == {"name": "large", "bounds": "15 % or more of the image", "images": 0}


def test_quarters_leave_empty_truths_out_and_keep_equal_sizes_together():
    eight = Evaluation(tuple(score(str(number), 10 * number, 1) for number in range(9)))
    assert [set(stratum.part.ids) for stratum in by_quartile(eight)] == [
        {"1", "2"}, {"3", "4"}, {"5", "6"}, {"7", "8"},
    ]  # fmt: skip
    equal = by_quartile(Evaluation((score("a", 20, 1), score("b", 20, 1), score("empty", 0, 0))))
    assert [(stratum.name, stratum.part.ids) for stratum in equal] == [("smallest quarter", ("a", "b"))]
    assert by_quartile(Evaluation((score("empty", 0, 0),))) == []


def test_numbers_of_areas():
    assert ids(by_areas(SET)) == {
        "none": {"nothing"},
        "1": {"half", "one"},
        "2": {"almost five"},
        "4 to 9": {"five", "fifteen"},
        "10 or more": {"all"},
    }


def test_every_image_is_in_one_stratum_of_each_kind():
    for found in strata(SET).values():
        names = [name for stratum in found if stratum.part for name in stratum.part.ids]
        assert len(names) == len(set(names)) >= 6
