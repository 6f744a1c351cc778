import random

import pytest

from reclmis.notes import mirror_note, note_survives, note_zones, parse_note, render


@pytest.mark.parametrize(
    ("note", "mirrored"),
    [
        ("upper left lung", "upper right lung"),
        ("Left LEFT left Right", "Right RIGHT right Left"),
        ("lowerleft lung, right left lung", "lowerright lung, left right lung"),
        ("left-sided opacity, rightmost part", "right-sided opacity, leftmost part"),
        ("opacity in the RLL, LUZ and Lt base", "opacity in the LLL, RUZ and Rt base"),
        ("R lung, l lung", "L lung, l lung"),
        (
            "Unilateral infection, left lung and lowerl right lung",
            "Unilateral infection, right lung and lowerl left lung",
        ),
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
        "RML opacity",
        "RT lung",
        "R factor",
        "Lll opacity",
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
        ("No pulmonary infection, zero infected areas.", True, True),
        ("Pulmonary infection, two infected areas.", True, True),
        # A quarter turn puts both sides on one.
        ("Bilateral pulmonary infection, two infected areas.", True, False),
        ("left lung and right lung", True, False),
        # Of a flipped lung "all" need not be true: zones are no mirror images of each other.
        ("all left lung and all right lung", False, False),
        ("LLL opacity", False, False),
        ("bibasilar opacities", False, False),
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
        finding = parse_note(note).finding
        assert parse_note(mirrored).finding == (finding and finding.mirrored())


def test_mirroring_twice_changes_nothing_in_random_notes():
    draw = random.Random(0)
    words = "left right Left RIGHT upper lower middle all lung lungs and bright uooer lowerl rigth LEft upright".split()
    for _ in range(3000):
        count = draw.randint(1, 8)
        check_mirror("".join(draw.choice(words) + draw.choice([" ", " ", " ", "", ", "]) for _ in range(count)))


def test_every_finding_mirrors(every_finding):
    for finding in every_finding:
        check_mirror(render(finding))
        assert parse_note(mirror_note(render(finding))).finding == finding.mirrored()
        assert note_survives(render(finding), "flip_vertical") != finding.names_heights
        assert note_survives(render(finding), "rotate90") == (finding.laterality is None)


def test_every_real_note(real_notes):
    for note in set(real_notes):
        check_mirror(note)
        assert mirror_note(note) is not None
        zones = bool(note_zones(note)) or any(word in note for word in ("upper", "lower"))
        assert note_survives(note, "flip_vertical") != zones
