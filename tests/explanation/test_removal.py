"""What a mask owes to each word, against notes that are written out by hand."""

import pytest
import torch

from reclmis.explanation import word_removal
from reclmis.text.note_table import with_note_table
from tests.explanation.conftest import NOTES, picture
from tests.parts import NOTE_TEXT, lively, tiny_model, tiny_processor


def one_minus_dice(one, other):
    return 1 - 2 * float((one & other).sum()) / float(one.sum() + other.sum())


@pytest.mark.parametrize("padding", ["ignore", "attend"])
def test_by_hand(padding):
    model, processor = lively(tiny_model(text_config=NOTE_TEXT, text_padding=padding)), tiny_processor(NOTES)
    inputs = processor(images=picture(), text="upper leftm lung", return_tensors="pt")
    ids = inputs["input_ids"][0].tolist()
    tokens = processor.tokenizer.convert_ids_to_tokens(ids)
    assert tokens[:7] == ["<start>", "Ġupper", "Ġleft", "m", "Ġlung", "<end>", "<pad>"]

    def mask(*hidden):
        changed, real = inputs["input_ids"].clone(), inputs["attention_mask"].clone()
        for place in hidden:
            changed[0, place], real[0, place] = ids[-1], 0
        with torch.no_grad():
            outputs = model(pixel_values=inputs["pixel_values"], input_ids=changed, attention_mask=real)
        return processor.post_process_semantic_segmentation(outputs, target_sizes=[(50, 70)])[0] > 0

    model.train()
    found = word_removal(model, processor, picture(), "upper leftm lung")
    assert model.training
    model.eval()
    expected = [one_minus_dice(mask(), mask(*hidden)) for hidden in ((1,), (2, 3), (4,))]
    assert [word for word, _ in found] == ["upper", "leftm", "lung"]
    assert [change for _, change in found] == pytest.approx(expected, abs=2e-3)
    assert max(expected) > 0


def test_no_word_matters_where_no_note_does(processor):
    model = lively(tiny_model(text_config=NOTE_TEXT, interaction="none"))
    assert all(change == 0 for _, change in word_removal(model, processor, picture(), NOTES[0]))


def test_empty_masks_are_the_same(model, processor):
    assert {change for _, change in word_removal(model, processor, picture(), NOTES[0], threshold=1.0)} == {0.0}


def test_what_cannot_be_asked(model, processor):
    with pytest.raises(ValueError, match="note is empty"):
        word_removal(model, processor, picture(), " ")
    with pytest.raises(ValueError, match="table of notes"):
        word_removal(with_note_table(model, processor, NOTES), processor, picture(), NOTES[0])
