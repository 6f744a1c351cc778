import random
import time

import pytest

from reclmis.notes import Finding, note_count, note_zones, parse_note, render
from reclmis.notes.lexicon import LEXICON

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
    "Bilateral pulmonary infection, left lung and middle right lung.": ALL_LEFT | {("right", "middle")},
    "Unilateral pulmonary infection, left lung.": ALL_LEFT,
    "No pulmonary infection, zero infected areas.": set(),
    "A bright, slower light at eight.": set(),
    "": set(),
    # The order of radiologists.
    "left lower lobe opacity": {("left", "lower")},
    "LLL consolidation": {("left", "lower")},
    "RUL and LLL infiltrates": {("right", "upper"), ("left", "lower")},
    "bilateral lower lobe opacities": {("left", "lower"), ("right", "lower")},
    "Bibasilar opacities.": {("left", "lower"), ("right", "lower")},
    "left and right lower lobes: pneumonia": {("left", "lower"), ("right", "lower")},
    "left upper and lower lobe opacities": {("left", "upper"), ("left", "lower")},
    "left upper and right lower lobe opacities": {("left", "upper"), ("right", "lower")},
    "lower left, upper right lung opacity": {("left", "lower"), ("right", "upper")},
    "left and lower right lung infection": ALL_LEFT | {("right", "lower")},
    "bilateral upper and left lower lobe opacities": {
        ("left", "upper"), ("right", "upper"), ("left", "lower")},
    "right lung base, left apex: opacities": {("right", "lower"), ("left", "upper")},
    "opacity in the upper and lower zones of the left lung": {("left", "upper"), ("left", "lower")},
    "L lung opacity": ALL_LEFT,
    "right-sided mid zone opacity": {("right", "middle")},
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
        ("twenty one infected areas", 21),
        ("two pulmonary opacities", 2),
        ("two one infected area", None),
        ("often infected areas", None),
        ("infected areas", None),
        ("9999999999 infected areas", None),
        ("² infected areas", None),
        ("COVID-19 pneumonia, left lung", None),
        ("SARS-CoV-2 infection", None),
    ],
)
def test_count(note, count):
    assert note_count(note) == count


def test_a_whole_finding():
    parsed = parse_note("Bilateral ground-glass opacities, 3 areas, RUL and left lung.")
    assert parsed.finding == Finding(
        kind="ground-glass opacity", count=3, left=frozenset(), right=frozenset({"upper"}), laterality="bilateral"
    )
    assert parsed.status == "complete" and parsed.corrections == parsed.not_understood == ()


@pytest.mark.parametrize(
    ("note", "corrections"),
    [
        ("lowerl left lung", {"lowerl": "lower"}),
        ("midlle left lung", {"midlle": "middle"}),
        ("uooer left lung", {"uooer": "upper"}),
        ("oneinfected area, left lung", {"oneinfected": "one infected"}),
        ("right left lung", {"right left": "right and left"}),
        ("lower l left lung", {"l": ""}),
        ("Bilaterl pulmnary infecton", {"Bilaterl": "bilateral", "pulmnary": "pulmonary", "infecton": "infection"}),
        ("Unilateral infection, left lung and lower right lung", {"left lung": ""}),
        ("LLL opacity, higher right lung", {}),
    ],
)
def test_what_was_corrected(note, corrections):
    parsed = parse_note(note)
    assert dict(parsed.corrections) == corrections
    assert parsed.status == "complete" and parsed.text == note


@pytest.mark.parametrize(
    ("note", "contradiction"),
    [
        ("Bilateral infection, one infected area, left lung only.", "bilateral, but only the left is named"),
        ("Unilateral infection, upper left lung and lower right lung.", "unilateral, but both sides are named"),
        ("Bilateral infection, one infected area, all left lung and all right lung", "both sides, but one infected area"),
        ("two one infected area", "one and two infected areas"),
        ("unilateral bilateral infection", "both unilateral and bilateral"),
        ("zero infected areas, left lung", "zero infected areas, but a place"),
    ],
)  # fmt: skip
def test_contradictions_are_named(note, contradiction):
    parsed = parse_note(note)
    assert contradiction in parsed.contradictions and parsed.status == "partial"


def test_named_sides_win_over_the_extent():
    assert parse_note("Bilateral infection, middle left lung").finding == Finding(left=frozenset({"middle"}))


@pytest.mark.parametrize(
    "note",
    [
        "The nuclei are evenly distributed.",
        "The nuclei density in the upper right is high.",
        "The nuclei density is higher around.",
        "the power tower is bright at night",
        "RT-PCR positive",
    ],
)
def test_what_is_not_about_lungs_is_unparsed_and_says_so(note):
    parsed = parse_note(note)
    assert parsed.finding is None and parsed.status == "unparsed"
    assert " ".join(parsed.not_understood) == note.replace("-", " ").rstrip(".")


@pytest.mark.parametrize("word", ["injection", "lunge", "these", "fright", "lateral", "often", "flower"])
def test_words_of_another_meaning_are_no_misspellings(word):
    parsed = parse_note(f"left lung {word}")
    assert parsed.not_understood == (word,) and parsed.corrections == ()


@pytest.mark.parametrize(
    ("note", "present", "negated", "not_understood"),
    [
        ("No pulmonary infection.", False, (), ()),
        ("The lungs are clear.", False, (), ()),
        ("normal chest", False, (), ()),
        ("No consolidation, effusion", False, (), ("effusion",)),
        ("No opacity in the left lung", False, (), ("left",)),
        ("Right lung is clear, left lower lobe opacity.", True, ("Right", "lung", "is", "clear"), ()),
        ("LLL opacity without effusion", True, ("without", "effusion"), ("effusion",)),
        ("No infiltrate, but left opacity", True, ("No", "infiltrate"), ()),
    ],
)
def test_negation(note, present, negated, not_understood):
    parsed = parse_note(note)
    assert parsed.finding.present is present
    assert parsed.negated == negated
    assert set(parsed.not_understood) <= set(not_understood)
    if not present:
        assert parsed.finding.count == 0 and not parsed.finding.sides


def test_places_that_belong_to_nothing_are_not_understood():
    assert parse_note("lower lobe infiltrate").not_understood == ("lower",)
    assert parse_note("grade 2, left lung").not_understood == ("grade", "2")


def test_any_string_is_parsed():
    draw = random.Random(0)
    words = [*LEXICON, "rigth", "uooer", "xyz", "l", "L", "R", "12", "٣", "²", "lowerleft", "\0", "é", "😀", "_", "'s"]
    for _ in range(3000):
        salad = draw.choice([" ", "", ", ", "-"]).join(draw.choices(words, k=draw.randint(0, 12)))
        noise = "".join(chr(draw.choice([draw.randrange(128), draw.randrange(0x2000)])) for _ in range(20))
        for text in (salad, noise, salad.upper(), salad + noise):
            parsed = parse_note(text)
            assert parsed.text == text and parsed.status in ("complete", "partial", "unparsed")
            if parsed.finding:
                assert parse_note(render(parsed.finding)).finding == parsed.finding, text
    with pytest.raises(TypeError, match="5"):
        parse_note(5)


def test_an_unknown_word_anywhere_is_reported(every_finding):
    draw = random.Random(0)
    for finding in draw.sample([finding for finding in every_finding if finding.present], 300):
        words = render(finding).split()
        words.insert(draw.randint(0, len(words)), "qwertz")
        parsed = parse_note(" ".join(words))
        assert "qwertz" in parsed.not_understood and parsed.status == "partial"


def test_parsing_is_cheap():
    start = time.perf_counter()
    for number in range(300):
        parse_note(f"Bilateral pulmonary infection, {number} infected areas, all left lung and lowerl right lung.")
    assert time.perf_counter() - start < 1
    assert parse_note("left lung") is parse_note("left lung")


def test_every_real_note(real_notes):
    """The figures of `benchmarks/results/notes.json`."""
    chest = [note for note in real_notes if "infect" in note]
    parsed = [parse_note(note) for note in chest]
    assert all(note.finding for note in parsed) and not any(note.not_understood for note in parsed)
    assert sum(note.status == "complete" for note in parsed) / len(parsed) > 0.997
    assert all(note.finding.zones or not note.finding.present for note in parsed)
    assert sum(note.finding.count is None for note in parsed) <= 2
    assert sum(not note.finding.present for note in parsed) in (0, 47)
    assert {parse_note(note).status for note in set(real_notes) - set(chest)} <= {"unparsed"}
