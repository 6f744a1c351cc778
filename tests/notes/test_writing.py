import pytest

from reclmis.notes import KINDS, Finding, normalise_note, paraphrases, parse_note, render

LOWER = frozenset({"lower"})


def test_every_finding_is_read_back(every_finding):
    assert len(set(every_finding)) == len(every_finding)
    wrong = [finding for finding in every_finding if parse_note(render(finding)).finding != finding]
    assert wrong == []
    assert not any(parse_note(render(finding)).corrections for finding in every_finding)


@pytest.mark.parametrize(
    "sentence",
    [
        "Bilateral pulmonary infection, two infected areas, all left lung and middle lower right lung.",
        "Unilateral pulmonary infection, one infected area, upper right lung.",
        "Unilateral consolidation, left lung.",
        "Bilateral pulmonary infection, 14 infected areas.",
        "No pulmonary infection, zero infected areas.",
        "Pneumonia.",
    ],
)
def test_canonical_sentences(sentence):
    assert render(parse_note(sentence).finding) == normalise_note(sentence) == sentence


@pytest.mark.parametrize(
    ("note", "normalised"),
    [
        ("Unilateral pulmonary infection,oneinfected areas, lowerl  left lung",
         "Unilateral pulmonary infection, one infected area, lower left lung."),
        ("LLL consolidation", "Unilateral consolidation, lower left lung."),
        ("Unilateral pulmonary infection, one infected areas, left lung and middle right lung.",
         "Unilateral pulmonary infection, one infected area, middle right lung."),
        # What is not understood completely is kept to the letter.
        ("LLL  consolidation behind the heart", "LLL  consolidation behind the heart"),
        ("two one infected area, left lung", "two one infected area, left lung"),
        ("No opacity, but left infiltrate", "No opacity, but left infiltrate"),
        ("The nuclei are evenly distributed.", "The nuclei are evenly distributed."),
        ("", ""),
    ],
)  # fmt: skip
def test_normalising(note, normalised):
    assert normalise_note(note) == normalised
    assert normalise_note(normalised) == normalised


def test_real_notes_keep_their_meaning(real_notes):
    for note in set(real_notes):
        assert parse_note(normalise_note(note)).finding == parse_note(note).finding


def test_paraphrases_say_the_same_in_other_words(every_finding):
    for number, finding in enumerate(every_finding[::7]):
        # Where no side is named there is little to say in other words.
        wanted = 5 if finding.sides or not finding.present else 1
        sentences = paraphrases(finding, wanted, seed=number)
        assert len(set(sentences)) == wanted
        for sentence in sentences:
            assert parse_note(sentence).finding == finding, sentence
            assert parse_note(sentence).status != "unparsed" and not parse_note(sentence).not_understood, sentence
            assert sentence[0].isupper() or sentence[0].isdigit()
            assert sentence.endswith(".") and "  " not in sentence and " ," not in sentence


def test_paraphrases_depend_on_the_seed_alone():
    finding = Finding(count=3, left=frozenset({"upper", "lower"}), right=LOWER)
    assert paraphrases(finding, 20, seed=1) == paraphrases(finding, 20, seed=1) != paraphrases(finding, 20, seed=2)
    assert paraphrases(finding, 5, seed=1) == paraphrases(finding, 20, seed=1)[:5]
    everything = paraphrases(finding, 100, seed=0)
    assert len({len(sentence.split()) for sentence in everything}) > 5
    with pytest.raises(ValueError, match=r"has 5 sentences, 6 were"):
        paraphrases(Finding(present=False), 6, seed=0)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"kind": "rash"}, "rash"),
        ({"left": frozenset({"top"})}, "top"),
        ({"laterality": "bilateral", "left": LOWER}, "bilateral"),
        ({"laterality": "unilateral", "left": LOWER, "right": LOWER}, "unilateral"),
        ({"laterality": "both"}, "both"),
        ({"present": False, "left": LOWER}, "absent"),
        ({"present": False, "count": 2}, "absent"),
        ({"count": 0}, "at least 1"),
    ],
)
def test_impossible_findings_are_refused(fields, word):
    with pytest.raises(ValueError, match=word):
        Finding(**fields)


def test_what_follows_from_the_fields():
    finding = Finding(left=LOWER, right=frozenset())
    assert finding.laterality == "bilateral" and finding.sides == {"left", "right"} and finding.names_heights
    assert finding.zones == {("left", "lower"), *(("right", height) for height in ("upper", "middle", "lower"))}
    assert finding.mirrored() == Finding(left=frozenset(), right=LOWER) and finding.mirrored().mirrored() == finding
    assert Finding(present=False).count == 0 and Finding().kind == KINDS[0]
    assert not Finding(left=frozenset()).names_heights
