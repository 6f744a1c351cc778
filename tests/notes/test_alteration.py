"""Altered notes: what they say is what the alteration promises, held against the parser."""

import re

import pytest

from reclmis.notes import (
    mirror_note,
    note_zones,
    paraphrased,
    parse_note,
    render,
    side_swapped,
    with_typos,
    word_order_shuffled,
    zone_swapped,
)
from reclmis.notes.lexicon import LEXICON

NOTE = "Bilateral pulmonary infection, two infected areas, upper middle left lung and lower right lung."
NUCLEI = "The nuclei density in the upper right is high."


@pytest.mark.parametrize(
    ("note", "swapped"),
    [
        (NOTE, "Bilateral pulmonary infection, two infected areas, lower middle left lung and upper right lung."),
        ("Infection, Upper LOWERL left lung, lowerright lung", "Infection, Lower UPPERL left lung, upperright lung"),
        ("Opacity, lowerleft lung", "Opacity, upperleft lung"),
        ("Opacity, LOWER left lung", "Opacity, UPPER left lung"),
        ("RUL opacity", "RLL opacity"),
        ("LLZ consolidation", "LUZ consolidation"),
        ("Apical opacity on the left", "Basal opacity on the left"),
        ("Slower flowers, upper left lung opacity", "Slower flowers, lower left lung opacity"),
    ],
)
def test_zones_swapped(note, swapped):
    assert zone_swapped(note) == swapped
    if swapped is not None:
        assert zone_swapped(swapped) == note


@pytest.mark.parametrize(
    "note",
    [
        "Unilateral pulmonary infection, middle left lung.",
        "Infection, all left lung",
        "Infection, upper lower left lung",
        "Infection, lowe left lung",
        "Bibasilar opacities",
        "No pulmonary infection.",
        NUCLEI,
        "",
    ],
)
def test_notes_without_zones_to_swap(note):
    assert zone_swapped(note) is None


def test_sides_swapped_where_that_says_something_else():
    assert side_swapped(NOTE) == mirror_note(NOTE)
    for same in (
        "Infection, all left lung and all right lung",
        "Pulmonary infection.",
        NUCLEI,
        "Infection, rigth lung",
    ):
        assert side_swapped(same) is None


def test_every_swap_of_a_written_finding_is_undone_by_another(every_finding):
    swapped = 0
    for finding in every_finding:
        note = render(finding)
        for swap in (side_swapped, zone_swapped):
            other = swap(note)
            if other is not None:
                swapped += 1
                assert swap(other) == note
                assert parse_note(other).finding != finding
    assert swapped > len(every_finding)


def test_real_notes(real_notes):
    notes = sorted({note for note in real_notes if parse_note(note).finding})
    counts = dict.fromkeys(("sides", "zones"), 0)
    for note in notes:
        finding, sides, zones, wrong = (
            parse_note(note).finding,
            side_swapped(note),
            zone_swapped(note),
            with_typos(note, 1),
        )
        counts["sides"] += sides is not None
        counts["zones"] += zones is not None
        assert sides is None or (side_swapped(sides) == note and parse_note(sides).finding == finding.mirrored())
        assert zones is None or (zone_swapped(zones) == note and note_zones(zones) == _upside_down(note_zones(note)))
        assert wrong != note and parse_note(wrong).finding == finding
    assert min(counts.values()) > 0.5 * len(notes)
    for note in notes[::8]:
        other = paraphrased(note, 1)
        if parse_note(note).status == "complete":
            assert other.lower() != note.lower() and parse_note(other).finding == parse_note(note).finding


def _upside_down(zones):
    other = {"upper": "lower", "lower": "upper", "middle": "middle"}
    return {(side, other[height]) for side, height in zones}


def test_typos_are_misspellings_that_mean_the_same():
    seen = set()
    for seed in range(300):
        wrong = with_typos(NOTE, seed)
        assert parse_note(wrong).finding == parse_note(NOTE).finding
        new = set(re.findall(r"\w+", wrong.lower())) - set(re.findall(r"\w+", NOTE.lower()))
        assert 1 <= len(new) <= 2 and not new & set(LEXICON)
        seen |= new
    assert {"leeft", "lftt", "rigth", "uppr"} & seen and any("lung" in word and word != "lung" for word in seen)
    assert with_typos(NOTE, 3) == with_typos(NOTE, 3) != with_typos(NOTE, 4)


def test_typos_in_notes_that_the_parser_does_not_understand():
    """Its sides and heights stay what they are, as far as words that it knows go."""
    for seed in range(100):
        wrong = with_typos(NUCLEI, seed)
        assert wrong != NUCLEI and parse_note(wrong).finding is None
        assert not re.search(r"\b(lower|left)\b", wrong)
    assert with_typos("one two", 0) is None
    with pytest.raises(ValueError, match="at least 1, got 0"):
        with_typos(NOTE, 0, count=0)


def test_words_in_another_order():
    for seed in range(20):
        moved = word_order_shuffled(NOTE, seed)
        words = re.findall(r"\w+", moved)
        assert sorted(words) == sorted(re.findall(r"\w+", NOTE)) and moved != NOTE
        assert re.sub(r"\w+", "", moved) == re.sub(r"\w+", "", NOTE)
    assert word_order_shuffled(NUCLEI, 0) is not None
    assert word_order_shuffled("Infection", 0) is None and word_order_shuffled("left, left", 0) is None


def test_paraphrases_need_a_note_that_is_understood():
    assert paraphrased(NOTE, 0) != paraphrased(NOTE, 5)
    assert paraphrased("No pulmonary infection.", 0) is not None
    for unclear in (NUCLEI, "Unilateral infection, both lungs, clear pleura", "Fuzzy infection in the left lung"):
        assert paraphrased(unclear, 0) is None
