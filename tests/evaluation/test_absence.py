"""Answers to notes that are right, absent, contradicting and denying."""

import pytest
from datasets import concatenate_datasets

from reclmis.data import synthetic_dataset
from reclmis.data.masks import read_mask
from reclmis.evaluation import absence
from reclmis.evaluation.absence import _above, notes_of_others
from reclmis.notes import parse_note
from reclmis.notes.geometry import finding_from_mask
from tests.parts import NOTE_TEXT, tiny_model, tiny_processor


@pytest.fixture(scope="module")
def split():
    return synthetic_dataset(num_train=1, num_validation=5, size=64)["validation"]


def test_a_model_that_finds_everything_absent(split):
    model = tiny_model(text_config=NOTE_TEXT, note_dropout=0.1, presence=True)
    processor = tiny_processor(split["note"])
    processor.null_note = True
    model.presence.score.bias.data.fill_(-30.0)
    table = absence(model, processor, split, batch_size=2)
    assert list(table) == ["right", "none", "contradicting", "denial"]
    assert all(answers["empty"] == 1 and answers["marked"] == 0 for answers in table.values())
    assert [table[kind]["dice_per_image"] for kind in table] == [0, 0, 1, 1]
    assert table["right"]["presence"] < 0.01 and 0 <= table["contradicting"]["presence_auc"] <= 1


def test_a_model_that_marks_everything_and_judges_nothing(split):
    model = tiny_model(text_config=NOTE_TEXT)
    model.decoder.head.weight.data.zero_()
    model.decoder.head.bias.data.fill_(5.0)
    table = absence(model, tiny_processor(split["note"]), split.remove_columns("absent_note"))
    assert list(table) == ["right", "contradicting", "elsewhere", "denial"]
    assert all(answers["empty"] == 0 and answers["marked"] == 1 for answers in table.values())
    assert table["right"]["dice_per_image"] > 0 == table["denial"]["dice_per_image"]
    assert "presence" not in table["right"]


def test_share_of_pairs_by_hand():
    assert _above([0.9, 0.5], [0.1, 0.5]) == 3.5 / 4


def test_notes_of_others_are_true_elsewhere_and_of_nothing_here():
    rows = synthetic_dataset(num_train=1, num_validation=12, size=64)["validation"].remove_columns("absent_note")
    notes = notes_of_others(rows, 0, "image")
    assert notes == notes_of_others(rows, 0, "image") and any(notes)
    for row, note in zip(rows, notes, strict=True):
        if note is not None:
            assert note in rows["note"] and note != row["note"]
            shown = finding_from_mask(read_mask(row["mask"]), orientation="image").zones
            assert parse_note(note).finding.zones and not parse_note(note).finding.zones & shown
    alone = rows.select([0])
    assert notes_of_others(concatenate_datasets([alone, alone]), 0, "image") == [None, None]
