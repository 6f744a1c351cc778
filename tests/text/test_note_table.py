"""A model that keeps encoded notes in place of its text encoder."""

import pytest
import torch

from reclmis import RecLMISModel
from reclmis.prediction import predict
from reclmis.text import NoteTable, with_note_table
from tests.parts import LENGTH, NOTE_TEXT, lively, tiny_model, tiny_processor

NOTES = ["upper left lung", "lower right lung, two infected areas", "", "bilateral pulmonary infection"]
CLIP = {**NOTE_TEXT, "projection_dim": 24, "intermediate_size": 64, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip


@pytest.fixture(scope="module")
def processor():
    return tiny_processor(NOTES)


@pytest.fixture(scope="module", params=["tokens", "clip, padding attended"])
def model(request):
    if request.param == "tokens":
        return lively(tiny_model(text_config=NOTE_TEXT))
    return lively(tiny_model(text_encoder="clip", text_config=CLIP, text_padding="attend"))


@pytest.fixture(scope="module")
def image():
    return torch.randint(0, 256, (64, 64, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8).numpy()


@torch.no_grad()
def logits(model, processor, image, note):
    return model(**processor(images=image, text=note, return_tensors="pt")).logits


def test_every_note_is_answered_as_before_after_loading_pruned_as_well(model, processor, image, tmp_path):
    table = with_note_table(model, processor, NOTES)
    table.save_pretrained(tmp_path)
    loaded = RecLMISModel.from_pretrained(tmp_path, prune_reconstruction=True)
    assert isinstance(loaded.text_encoder, NoteTable)
    assert not any(name.startswith("text_encoder.") for name, _ in loaded.named_parameters())
    answers = [logits(model, processor, image, note) for note in NOTES]
    for note, answer in zip(NOTES, answers, strict=True):
        assert torch.equal(logits(table, processor, image, note), answer)
        assert torch.equal(logits(loaded, processor, image, note), answer)
    assert not torch.equal(answers[0], answers[1])
    # Several at once, in any order.
    together = logits(loaded, processor, [image] * 3, [NOTES[3], NOTES[0], NOTES[3]])
    alone = torch.cat([answers[3], answers[0], answers[3]])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)


def test_an_unknown_note_is_an_error_and_never_a_guess(model, processor, image):
    table = with_note_table(model, processor, NOTES)
    with pytest.raises(ValueError, match=r"Note\(s\) 1 of the batch are not among the 4"):
        logits(table, processor, [image] * 2, [NOTES[0], "upper right lung"])
    inputs = processor(images=image, text=NOTES[0], return_tensors="pt", max_length=LENGTH - 2)
    with pytest.raises(ValueError, match=f"have {LENGTH} tokens, but this one has {LENGTH - 2}"):
        table(**inputs)
    failures = []
    requests = [(image, NOTES[0]), (image, "upper right lung"), (image, NOTES[1])]
    answered = list(predict(table, processor, requests, on_error=lambda source, error: failures.append(str(error))))
    assert [prediction.index for prediction in answered] == [0, 2]
    assert len(failures) == 1 and "'upper right lung'" in failures[0]


def test_a_table_needs_notes(model, processor):
    with pytest.raises(ValueError, match="at least one note"):
        with_note_table(model, processor, [])


def test_the_table_compiles(model, processor, image):
    table = with_note_table(model, processor, NOTES)
    inputs = processor(images=image, text=NOTES[1], return_tensors="pt")
    compiled = torch.compile(table, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(**inputs).logits, table(**inputs).logits, atol=1e-5, rtol=0)
