import numpy as np
import pytest

from reclmis.notes import Finding, finding_from_mask, fits, note_from_mask, parse_note

SIZE = 100


def drawn(*boxes: tuple[float, float, float, float], size: int = SIZE) -> np.ndarray:
    """A mask of rectangles (top, bottom, left, right), as shares of the side."""
    mask = np.zeros((size, size), np.uint8)
    for box in boxes:
        top, bottom, left, right = (round(edge * size) for edge in box)
        mask[top:bottom, left:right] = 255
    return mask


UPPER_LEFT, LOWER_RIGHT = (0.1, 0.2, 0.1, 0.4), (0.6, 0.8, 0.6, 0.9)
ALL_LEFT, MIDDLE_RIGHT = (0.1, 0.8, 0.1, 0.4), (0.4, 0.5, 0.6, 0.9)


@pytest.mark.parametrize(
    ("boxes", "note"),
    [
        ((), "No pulmonary infection, zero infected areas."),
        ((UPPER_LEFT,), "Unilateral pulmonary infection, one infected area, upper left lung."),
        ((ALL_LEFT, LOWER_RIGHT),
         "Bilateral pulmonary infection, two infected areas, all left lung and lower right lung."),
        ((MIDDLE_RIGHT,), "Unilateral pulmonary infection, one infected area, middle right lung."),
        (((0.3, 0.7, 0.6, 0.9),), "Unilateral pulmonary infection, one infected area, middle lower right lung."),
        # Two areas with a gap between, where one of the same extent would be all of the lung.
        (((0.1, 0.2, 0.1, 0.4), (0.6, 0.8, 0.1, 0.4)),
         "Unilateral pulmonary infection, two infected areas, upper lower left lung."),
        # Corners that touch make one area.
        (((0.6, 0.7, 0.1, 0.2), (0.7, 0.8, 0.2, 0.3)),
         "Unilateral pulmonary infection, one infected area, lower left lung."),
        # A little over the midline is no second side, a lot is.
        (((0.6, 0.8, 0.1, 0.55),), "Unilateral pulmonary infection, one infected area, lower left lung."),
        (((0.6, 0.8, 0.2, 0.7),),
         "Bilateral pulmonary infection, one infected area, lower left lung and lower right lung."),
    ],
)  # fmt: skip
def test_notes_of_drawn_masks(boxes, note):
    assert note_from_mask(drawn(*boxes), orientation="image") == note
    assert note_from_mask(drawn(*boxes, size=200), orientation="image") == note
    assert fits(note, drawn(*boxes), orientation="image").holds


def test_whose_left_is_said_by_the_caller():
    mask = drawn(UPPER_LEFT)
    assert "upper left" in note_from_mask(mask, orientation="image")
    assert "upper right" in note_from_mask(mask, orientation="patient", kind="consolidation")
    assert fits("RUL opacity", mask, orientation="patient").holds
    assert fits("RUL opacity", mask, orientation="image").sides is False
    for call in (lambda **o: note_from_mask(mask, **o), lambda **o: fits("left lung", mask, **o)):
        with pytest.raises(TypeError, match="orientation"):
            call()
        with pytest.raises(ValueError, match="'viewer'.*image.*patient"):
            call(orientation="viewer")


@pytest.mark.parametrize(
    ("note", "presence", "sides", "count", "zones", "overlap"),
    [
        ("Bilateral infection, two infected areas, all left lung and lower right lung", True, True, True, True, 1.0),
        (
            "Bilateral infection, three infected areas, all left lung and upper right lung",
            True,
            True,
            False,
            False,
            0.6,
        ),
        ("Unilateral infection, one infected area, all left lung", True, False, False, True, 1.0),
        ("left lung and right lung", True, True, None, None, None),
        ("Bilateral infection", True, True, None, None, None),
        ("Unilateral infection", True, False, None, None, None),
        ("2 infected areas", True, None, True, None, None),
        ("No infection", False, None, None, None, None),
        ("The nuclei are evenly distributed.", None, None, None, None, None),
    ],
)
def test_each_part_of_the_fit_stands_alone(note, presence, sides, count, zones, overlap):
    fit = fits(note, drawn(ALL_LEFT, LOWER_RIGHT), orientation="image")
    assert (fit.presence, fit.sides, fit.count, fit.zones) == (presence, sides, count, zones)
    assert fit.zone_overlap == pytest.approx(overlap)
    assert fit.holds == (False not in (presence, sides, count, zones))
    assert fit.seen == finding_from_mask(drawn(ALL_LEFT, LOWER_RIGHT), orientation="image")
    assert fit.stated == parse_note(note).finding


def test_an_empty_mask_fits_an_absence():
    empty = drawn()
    assert fits("No pulmonary infection, zero infected areas.", empty, orientation="image").holds
    assert not fits("left lung", empty, orientation="image").holds
    assert fits(Finding(present=False), empty, orientation="image").presence


def test_fits_are_compared_part_by_part():
    mask = drawn(ALL_LEFT, LOWER_RIGHT)
    notes = "two infected areas, all left lung and lower right lung", "three infected areas, upper left lung", "lungs"
    whole, wrong, silent = (fits(note, mask, orientation="image") for note in notes)
    assert whole.at_least(wrong) and not wrong.at_least(whole)
    assert whole.at_least(whole) and whole.at_least(silent) and not silent.at_least(whole)


def flooded(mask: np.ndarray) -> int:
    """The number of 8-connected areas, one pixel after the other."""
    left = set(zip(*np.nonzero(mask), strict=True))
    areas = 0
    while left:
        areas, open_pixels = areas + 1, [left.pop()]
        while open_pixels:
            row, column = open_pixels.pop()
            for near in [(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]:
                if near in left:
                    left.remove(near)
                    open_pixels.append(near)
    return areas


def test_areas_of_random_masks_and_their_mirror_images():
    draw = np.random.default_rng(0)
    for _ in range(300):
        mask = draw.random(draw.integers(1, 24, 2)) < draw.random()
        seen = finding_from_mask(mask, orientation="image")
        assert seen.count == flooded(mask)
        assert finding_from_mask(mask[:, ::-1], orientation="image") == seen.mirrored()
        assert finding_from_mask(mask, orientation="patient") == seen.mirrored()
        assert fits(note_from_mask(mask, orientation="patient"), mask, orientation="patient").holds


def test_bad_masks_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3, 4\)"):
        note_from_mask(np.zeros((2, 3, 4)), orientation="image")
    with pytest.raises(ValueError, match="some pixels"):
        fits("left lung", np.zeros((0, 3)), orientation="image")


def test_agreement_on_real_masks(shared):
    """The figures of `benchmarks/results/notes.json`, on the validation part."""
    from reclmis.data import load_dataset_by_name, read_mask

    root = shared / "data" / "QaTa-COV19"
    if not root.is_dir():
        pytest.skip(f"No {root}.")
    split = load_dataset_by_name(str(root), splits=["validation"], verify=False)["validation"]
    rows = [
        fits(note, read_mask(mask), orientation="image")
        for note, mask in zip(split["note"], split["mask"], strict=True)
    ]
    assert np.mean([row.sides for row in rows]) > 0.97
    assert np.mean([row.count for row in rows]) > 0.97
    assert np.mean([row.zone_overlap for row in rows]) > 0.7
