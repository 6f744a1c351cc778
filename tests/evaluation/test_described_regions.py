"""Where notes point: boxes against the areas that they are called after, and the synthetic set's own zones."""

import numpy as np
import pytest

from reclmis.data.radiograph import draw_radiograph
from reclmis.evaluation.described_regions import DescribedRegions, shown_in_zones, zone_boxes
from reclmis.notes import QATA, finding_from_mask
from tests.evaluation.noted_squares import ALL_ZONES, note_of, noted_squares, squares


def test_boxes_by_hand():
    """Of 100 rows: upper ends where "middle" does, at 46, lower begins where it begins, at 34, middle lies from 26 to 56."""
    for height, (top, bottom) in {"upper": (0, 46), "middle": (26, 56), "lower": (34, 100)}.items():
        box = zone_boxes([("left", height)], (100, 9), orientation="image")
        assert box[:, 0].nonzero()[0].tolist() == list(range(top, bottom))
        # The middle column is on both sides.
        assert box[40].tolist() == [True] * 5 + [False] * 4
        mirrored = zone_boxes([("left", height)], (100, 9), orientation="patient")
        assert (mirrored == box[:, ::-1]).all()
    assert not zone_boxes([], (4, 4), orientation="image").any()
    assert zone_boxes(ALL_ZONES, (50, 50), orientation="image").all()


def test_every_area_lies_within_the_boxes_of_what_it_is_called():
    draw = np.random.default_rng(0)
    for _ in range(300):
        mask = np.zeros((80, 80), dtype=np.uint8)
        left, top = int(draw.integers(2)) * 40, int(draw.integers(76))
        column, height, width = left + int(draw.integers(30)), int(draw.integers(1, 60)), int(draw.integers(1, 10))
        mask[top : top + height, column : min(column + width, left + 40)] = 1
        for orientation in ("image", "patient"):
            zones = finding_from_mask(mask, orientation=orientation, geometry=QATA).zones
            assert zone_boxes(zones, mask.shape, orientation=orientation)[mask > 0].all()


def test_what_an_image_shows_in_zones():
    named, others = [("left", "upper"), ("left", "lower")], [("left", "middle"), ("right", "lower")]
    findings = [(note_of(named), squares(named)), (note_of(others), squares(others))]
    for zones in (
        [("left", "upper")],
        [("left", "middle"), ("left", "lower")],
        [("right", "lower"), ("right", "upper")],
    ):
        shown = [zone for zone in zones if zone in named + others]
        assert (shown_in_zones(findings, zones) == squares(shown)).all()
    assert not shown_in_zones(findings, [("right", "middle")]).any()
    assert (shown_in_zones(findings, [("right", "upper")], orientation="patient") == 0).all()
    with pytest.raises(ValueError, match="no findings"):
        shown_in_zones([], named)


def test_the_synthetic_sets_zones_are_found_again():
    wrong = pixels = 0
    for index in range(40):
        draw = np.random.default_rng(index)
        zones = [ALL_ZONES[place] for place in draw.permutation(6)[:4]]
        _, owner = draw_radiograph(zones, 96, draw)
        mask = (owner >= 0).astype(np.uint8)
        for number, zone in enumerate(zones):
            found = shown_in_zones([(note_of(zones), mask)], [zone])
            wrong += int(((owner == number) & (found == 0)).sum())
        pixels += int(mask.sum())
    # Four zones in one mask, where the set's have three at most.
    assert wrong / pixels < 0.02


def test_what_the_text_only_predictor_answers():
    train = noted_squares(40)
    regions = DescribedRegions(list(train["note"]), train["mask"])
    for zones in ([("left", "upper")], [("left", "lower"), ("right", "middle")]):
        assert (regions.region(note_of(zones), (64, 64)) == squares(zones)).all()
        assert regions.region(note_of(zones), (128, 96)).shape == (128, 96)
    for silent in ("The nuclei are evenly distributed.", "Pulmonary infection.", "", None):
        assert regions.region(silent, (64, 64)) is None
    assert regions.answer("Pulmonary infection.", (64, 64)).shape == (64, 64)


def test_masks_of_any_size_are_brought_to_one():
    masks = [np.ones((300, 500), dtype=np.uint8), np.ones((20, 20), dtype=np.uint8)]
    regions = DescribedRegions(["Infection, left lung", "Infection, right lung"], masks)
    assert regions.size == (224, 224) and regions.answer("Infection", (30, 50)).shape == (30, 50)
