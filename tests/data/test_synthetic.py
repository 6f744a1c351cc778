import numpy as np
import pytest

from reclmis.data import load_dataset_by_name, make_sample, note_count, note_zones, read_mask, synthetic_dataset
from reclmis.data.notes import SIDES, ZONES
from reclmis.data.radiograph import draw_radiograph

SAMPLES = [make_sample(index, size=64) for index in range(150)]


def test_shapes_and_types():
    sample = SAMPLES[0]
    assert sample.keys() == {"image", "mask", "note", "id", "distractor_note", "distractor_mask", "absent_note"}
    assert (sample["image"].shape, sample["image"].dtype) == ((64, 64, 3), np.uint8)
    for key in ("mask", "distractor_mask"):
        assert (sample[key].shape, sample[key].dtype) == ((64, 64), np.uint8)


def test_a_function_of_index_and_seed_alone():
    again = make_sample(7, size=64)
    make_sample(8, size=32)
    assert all(np.array_equal(again[key], SAMPLES[7][key]) for key in again)
    assert not np.array_equal(make_sample(7, size=64, seed=1)["image"], again["image"])
    assert not np.array_equal(make_sample(6, size=64)["image"], again["image"])
    small, large = make_sample(7, size=64), make_sample(7, size=128)
    assert (small["note"], small["distractor_note"]) == (large["note"], large["distractor_note"])
    assert (large["mask"][::2, ::2] != small["mask"]).mean() < 0.02


def test_notes_name_some_opacities_and_leave_out_others():
    for sample in SAMPLES:
        named, others = note_zones(sample["note"]), note_zones(sample["distractor_note"])
        assert named and others and not named & others
        assert 2 <= len(named | others) <= 4
        assert note_count(sample["note"]) == len(named)
        assert note_count(sample["distractor_note"]) == len(others)
        assert sample["note"].startswith("Bilateral" if len({side for side, _ in named}) == 2 else "Unilateral")


def test_absent_notes_name_places_without_any_opacity():
    for sample in SAMPLES:
        absent = note_zones(sample["absent_note"])
        assert absent and not absent & (note_zones(sample["note"]) | note_zones(sample["distractor_note"]))
    assert len({sample["absent_note"] for sample in SAMPLES}) > 50


def test_masks_are_disjoint_and_never_empty():
    for sample in SAMPLES:
        assert not (sample["mask"] & sample["distractor_mask"]).any()
        for note, mask in (("note", "mask"), ("distractor_note", "distractor_mask")):
            assert set(np.unique(sample[mask])) == {0, 1}
            assert sample[mask].sum() >= 15 * len(note_zones(sample[note]))


@pytest.mark.parametrize("height", ZONES)
@pytest.mark.parametrize("side", SIDES)
def test_an_opacity_lies_in_its_zone_and_left_is_the_left_of_the_image(side, height):
    bands = {"upper": (0.15, 0.45), "middle": (0.35, 0.62), "lower": (0.52, 0.82)}
    for seed in range(20):
        _, owner = draw_radiograph([(side, height)], 64, np.random.default_rng(seed))
        rows, columns = np.nonzero(owner == 0)
        assert (columns.max() < 32) if side == "left" else (columns.min() >= 32)
        assert bands[height][0] < rows.mean() / 63 < bands[height][1]


def test_opacities_and_distractors_look_alike_and_brighter_than_the_lung():
    named = np.mean([sample["image"][sample["mask"] == 1].mean() for sample in SAMPLES])
    others = np.mean([sample["image"][sample["distractor_mask"] == 1].mean() for sample in SAMPLES])
    areas = [np.mean([sample[key].sum() / len(note_zones(sample[note])) for sample in SAMPLES])
             for key, note in (("mask", "note"), ("distractor_mask", "distractor_note"))]  # fmt: skip
    assert abs(named - others) < 3
    assert abs(areas[0] / areas[1] - 1) < 0.1
    zones = [(side, height) for side in SIDES for height in ZONES]
    for seed in range(5):
        ill, owner = draw_radiograph(zones, 64, np.random.default_rng(seed))
        well, _ = draw_radiograph([], 64, np.random.default_rng(seed))
        assert ill[owner >= 0].mean() > well[owner >= 0].mean() + 25


def test_zones_are_drawn_evenly():
    counts = {(side, height): 0 for side in SIDES for height in ZONES}
    for sample in SAMPLES:
        for zone in note_zones(sample["note"]):
            counts[zone] += 1
    assert min(counts.values()) > 0.5 * max(counts.values())


def test_the_dataset():
    splits = synthetic_dataset(num_train=5, num_validation=3, size=32, seed=4)
    assert {split: len(splits[split]) for split in splits} == {"train": 5, "validation": 3}
    assert not set(splits["train"]["id"]) & set(splits["validation"]["id"])
    row, sample = splits["validation"][1], make_sample(6, size=32, seed=4)
    np.testing.assert_array_equal(np.asarray(row["image"].convert("RGB")), sample["image"])
    for key in ("mask", "distractor_mask"):
        np.testing.assert_array_equal(read_mask(row[key]), sample[key])
    assert (row["note"], row["distractor_note"]) == (sample["note"], sample["distractor_note"])
    named = load_dataset_by_name("synthetic", num_train=5, num_validation=3, size=32, seed=4)
    assert named["train"]["note"] == splits["train"]["note"]


@pytest.mark.parametrize(
    ("change", "word"),
    [({"size": 16}, "32"), ({"seed": -1}, "seed"), ({"index": -1}, "index"), ({"seed": 2**64}, "seed")],
)
def test_impossible_samples_are_refused(change, word):
    with pytest.raises(ValueError, match=word):
        make_sample(**{"index": 0, **change})


def test_empty_splits_are_refused():
    with pytest.raises(ValueError, match="num_validation"):
        synthetic_dataset(num_train=1, num_validation=0, size=32)
