import pytest

from reclmis import RecLMISProcessor
from reclmis.data import synthetic_dataset
from reclmis.evaluation import text_dependence
from reclmis.evaluation.text_dependence import shuffled_notes
from tests.parts import tiny_config, tiny_model


def test_shuffled_notes_are_other_samples_and_say_something_else():
    notes = ["a"] * 4 + ["b"] * 3 + ["c", "d"]
    shuffled = shuffled_notes(notes, seed=0)
    assert sorted(shuffled) == sorted(notes)
    assert all(mine != other for mine, other in zip(notes, shuffled, strict=True))
    assert shuffled == shuffled_notes(notes, seed=0)
    assert len({tuple(shuffled_notes(notes, seed)) for seed in range(8)}) > 2


def test_a_note_that_fills_more_than_half_stays_for_some():
    notes = ["a"] * 5 + ["b"] * 2
    changed = sum(mine != other for mine, other in zip(notes, shuffled_notes(notes, 0), strict=True))
    assert changed == 4


@pytest.fixture(scope="module")
def parts():
    dataset = synthetic_dataset(num_train=2, num_validation=6, size=64)["validation"]
    text = {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = tiny_model(text_config=text, max_text_length=32)
    processor = RecLMISProcessor.from_model_config(
        tiny_config(text_config=text, max_text_length=32), notes=list(dataset["note"])
    )
    return model, processor, dataset


def test_one_row_per_kind_of_note(parts):
    table = text_dependence(*parts)
    distractors = {"distractor", "distractor_against_right"}
    assert set(table) == {"right", "empty", "shuffled", "swapped", "constant"} | distractors
    assert all(row["images"] == 6 for row in table.values())
    assert table["swapped"]["notes_changed"] == table["shuffled"]["notes_changed"] == 6
    assert text_dependence(*parts) == table


def test_a_model_without_interaction_does_not_depend_on_the_note(parts):
    _, processor, dataset = parts
    text = {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    blind = tiny_model(interaction="none", text_config=text, max_text_length=32)
    table = text_dependence(blind, processor, dataset)
    for name in ("empty", "shuffled", "swapped", "constant", "distractor_against_right"):
        assert {**table[name], "notes_changed": 6} == {**table["right"], "notes_changed": 6}
    assert table["distractor"] != table["distractor_against_right"]
