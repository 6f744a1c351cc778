"""Notes of which an image shows nothing."""

import numpy as np
import pytest

from reclmis.notes import contradicting_note, finding_from_mask, parse_note


def draws(mask, count=60, **options):
    return [
        contradicting_note(mask, np.random.default_rng(seed), **{"orientation": "image", **options})
        for seed in range(count)
    ]


@pytest.mark.parametrize("orientation", ["image", "patient"])
def test_names_the_side_without_a_finding(orientation):
    mask = np.zeros((90, 90), dtype=np.uint8)
    mask[10:20, 10:30] = 1  # the image's left
    free = "right" if orientation == "image" else "left"
    notes = draws(mask, orientation=orientation)
    findings = [parse_note(note).finding for note in notes]
    assert {side for finding in findings for side in finding.sides} == {free}
    denied = sum(not finding.present for finding in findings)
    assert 5 < denied < 30 and len(set(notes)) > 10


def test_names_free_heights_where_both_sides_have_one():
    mask = np.zeros((90, 90), dtype=np.uint8)
    mask[5:15, 10:80] = 1
    shown = finding_from_mask(mask, orientation="image").zones
    assert len(shown) == 2
    for note in draws(mask):
        assert not parse_note(note).finding.zones & shown


def test_denies_where_every_place_is_taken():
    for note in draws(np.ones((60, 60), dtype=np.uint8), denial=0.0):
        assert parse_note(note).finding.present is False


def test_the_word_for_the_finding_is_that_of_the_true_note():
    """Or the word alone would tell that a note is false."""
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[5:15, 5:15] = 1
    for seed in range(20):
        note = contradicting_note(
            mask, np.random.default_rng(seed), orientation="image", like="consolidation, upper left lung"
        )
        assert "onsolidation" in note
