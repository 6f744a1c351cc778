import random

import pytest

from reclmis.data import mirror_note, note_count, note_survives, note_zones
from reclmis.data.tables import read_note_table

ALL_LEFT = {("left", "upper"), ("left", "middle"), ("left", "lower")}
ALL_RIGHT = {("right", height) for _, height in ALL_LEFT}

ZONES = {
    "Bilateral pulmonary infection, two infected areas, all left lung and middle lower right lung.": ALL_LEFT
    | {("right", "middle"), ("right", "lower")},
    "two infected areas, lower left lung and lowerl right lung.": {("left", "lower"), ("right", "lower")},
    "three infected areas, uooer middle left lung and midlle right lung.": {
        ("left", "upper"), ("left", "middle"), ("right", "middle")},
    "one infected area, lowerleft lung.": {("left", "lower")},
    "two infected areaslower left lung.": {("left", "lower")},
    "three infected areas, upperlower left lung.": {("left", "upper"), ("left", "lower")},
    "one infected area, lower right left lung.": {("left", "lower"), ("right", "lower")},
    "two infected areas, lower left and all right lung.": {("left", "lower")} | ALL_RIGHT,
    "two infected area, upper lower and right lung.": {("right", "upper"), ("right", "lower")},
    "higher left lung and right lung": {("left", "upper")} | ALL_RIGHT,
    "two infected areas, middle lower l right lung.": {("right", "middle"), ("right", "lower")},
    "one infected area, middle rigth ung.": {("right", "middle")},
    "both lungs": ALL_LEFT | ALL_RIGHT,
    "Unilateral pulmonary infection, one infected areas, left lung and middle right lung.": {("right", "middle")},
    "Unilateral pulmonary infection, left lung.": ALL_LEFT,
    "No pulmonary infection, zero infected areas.": set(),
    "A bright, slower light at eight.": set(),
    "": set(),
}  # fmt: skip


@pytest.mark.parametrize("note", ZONES)
def test_zones(note):
    assert note_zones(note) == ZONES[note]


@pytest.mark.parametrize(
    ("note", "count"),
    [
        ("Unilateral pulmonary infection, one infected area, lower left lung.", 1),
        ("Unilateral pulmonary infection, oneinfected areas", 1),
        ("Bilateral pulmonary infectiontwo infected areas", 2),
        ("No pulmonary infection, zero infected areas.", 0),
        ("Eleven infected areas", 11),
        ("14 infected areas", 14),
        ("two one infected area", None),
        ("twenty one infected areas", None),
        ("often infected areas", None),
        ("infected areas", None),
    ],
)
def test_count(note, count):
    assert note_count(note) == count


@pytest.mark.parametrize(
    ("note", "mirrored"),
    [
        ("upper left lung", "upper right lung"),
        ("Left LEFT left Right", "Right RIGHT right Left"),
        ("lowerleft lung, right left lung", "lowerright lung, left right lung"),
        ("left-sided opacity, rightmost part", "right-sided opacity, leftmost part"),
        ("bright spot, upright patient", "bright spot, upright patient"),
        ("The nuclei are evenly distributed.", "The nuclei are evenly distributed."),
        ("", ""),
    ],
)
def test_mirrored_notes(note, mirrored):
    assert mirror_note(note) == mirrored
    assert mirror_note(mirrored) == note
    assert note_survives(note, "mirror")


@pytest.mark.parametrize(
    "note",
    [
        "lower rigth lung",
        "lft lung",
        "LEft lung",
        "opacity in the RLL",
        "R lung",
        "xleft lung",
        "left lung at 3 o'clock",
        "left of the heart",
        "right middle lobe",
        "nasal side, left",
        "west",
    ],
)
def test_notes_that_no_swap_makes_true(note):
    assert mirror_note(note) is None
    assert not note_survives(note, "mirror")


@pytest.mark.parametrize(
    ("note", "flip", "turn"),
    [
        ("Bilateral pulmonary infection, two infected areas.", True, True),
        ("all left lung and all right lung", True, False),
        ("upper left lung", False, False),
        ("midlle lungs", False, False),
        ("lowerleft", False, False),
        ("top of the image", False, False),
        ("near the apex", False, False),
        ("The nuclei density in the left is high.", True, False),
        ("rigth lung", True, False),
        ("horizontal band", True, False),
        ("nuclei are bright and evenly distributed", True, True),
    ],
)
def test_flips_and_turns(note, flip, turn):
    assert (note_survives(note, "flip_vertical"), note_survives(note, "rotate90")) == (flip, turn)


def test_unknown_operations_are_refused():
    with pytest.raises(ValueError, match="rotate90"):
        note_survives("left", "shear")


def swapped(zones):
    return {({"left": "right", "right": "left"}[side], height) for side, height in zones}


def check_mirror(note):
    mirrored = mirror_note(note)
    if mirrored is not None:
        assert mirror_note(mirrored) == note
        assert len(mirrored) - len(note) == note.lower().count("left") - mirrored.lower().count("left")
        assert note_zones(mirrored) == swapped(note_zones(note))


def test_mirroring_twice_changes_nothing_in_random_notes():
    draw = random.Random(0)
    words = "left right Left RIGHT upper lower middle all lung lungs and bright uooer lowerl rigth LEft upright".split()
    for _ in range(3000):
        count = draw.randint(1, 8)
        check_mirror("".join(draw.choice(words) + draw.choice([" ", " ", " ", "", ", "]) for _ in range(count)))


def test_every_real_note(shared):
    tables = sorted([*(shared / "data").glob("*/*/*_text.xlsx"), *(shared / "data").glob("*-notes/*.csv")])
    if not tables:
        pytest.skip(f"No tables of notes in {shared / 'data'}.")
    notes = {note for table in tables for _, note in read_note_table(table)}
    for note in notes:
        check_mirror(note)
        assert mirror_note(note) is not None
    chest = [note for note in notes if "infect" in note]
    assert [note for note in chest if not note_zones(note) and note_count(note) != 0] == []
    assert sum(note_count(note) is None for note in chest) <= 2
