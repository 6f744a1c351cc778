"""What is kept of an answer, and where in the image it lies."""

import numpy as np
import pytest
import torch

from reclmis.explanation import explain
from reclmis.exported import ExportedModel
from reclmis.image_processing_reclmis import RecLMISImageProcessor
from reclmis.processing_reclmis import RecLMISProcessor
from tests.explanation.conftest import NOTES, picture
from tests.parts import LENGTH, NOTE_TEXT, lively, tiny_model, tiny_processor


def test_is_what_the_model_computes(model, processor):
    image = picture()
    found = explain(model, processor, image, NOTES[0])
    with torch.no_grad():
        outputs = model(
            **processor(images=image, text=NOTES[0], return_tensors="pt"), output_attentions=True, output_features=True
        )
    (expected,) = processor.post_process_semantic_segmentation(
        outputs, target_sizes=[(50, 70)], return_probabilities=True
    )
    np.testing.assert_array_equal(found.probability, expected.numpy())
    assert found.mask.shape == (50, 70) and (found.mask == (expected.numpy() >= 0.5)).all() and found.mask.any()
    np.testing.assert_array_equal(found.patch_interest.ravel(), outputs.patch_interest[0])
    assert found.patch_interest.shape == (4, 4) and found.patch_interest.sum() == pytest.approx(1, abs=1e-5)
    # Row by row, as V' is flattened.
    assert found.interacted[1, 2] == pytest.approx(float(outputs.interacted_patches[0, 4 + 2].norm()), rel=1e-5)
    assert found.visual[1, 2] == pytest.approx(float(outputs.visual_features[0, :, 1, 2].norm()), rel=1e-5)
    assert found.words == ("upper", "left", "lung") and found.presence is None and found.remarks == ()
    # Start, three words of one token each, end.
    for place in range(3):
        looks = outputs.attentions["words_to_patches"][0, :, 1 + place].mean(0)
        np.testing.assert_allclose(found.word_attention[place].ravel(), looks, rtol=1e-5)
        listens = outputs.attentions["patches_to_words"][0, :, :, 1 + place].mean(0)
        np.testing.assert_allclose(found.patch_attention[place].ravel(), listens, rtol=1e-5)


def test_weights_sum_to_one_with_what_is_left_out(model, processor):
    found = explain(model, processor, picture(), "upper leftmost lung,")
    assert found.words == ("upper", "leftmost", "lung", ",")
    rest = dict(found.left_out)
    assert list(rest) == ["<start>", "<end>"]
    assert sum(found.word_interest) + sum(rest.values()) == pytest.approx(1, abs=1e-5)
    assert found.weighted_words[0] == ("upper", found.word_interest[0])
    np.testing.assert_allclose(found.word_attention.sum(axis=(1, 2)), 1, rtol=1e-4)
    assert (found.patch_attention.sum(axis=0) < 1).all() and (found.patch_attention > 0).all()


def unresized(divisor=16):
    image_processor = RecLMISImageProcessor(size={"height": 64, "width": 64}, do_resize=False, pad_size_divisor=divisor)
    return RecLMISProcessor(image_processor, tiny_processor(NOTES).tokenizer, max_length=LENGTH)


@pytest.mark.parametrize(("height", "width"), [(40, 120), (120, 40), (64, 64)])
@pytest.mark.parametrize("resized", [True, False])
def test_a_patch_lies_where_it_is_in_the_image(model, processor, height, width, resized):
    found = explain(model, processor if resized else unresized(), picture(height, width), NOTES[0])
    rows, columns = found.visual.shape
    assert (rows, columns) == ((4, 4) if resized else (-(-height // 16), -(-width // 16)))
    grid = np.zeros((rows, columns), dtype=np.float32)
    for row, column in ((0, columns - 1), (rows - 1, 0), (1, 1)):
        grid[:] = 0
        grid[row, column] = 1
        spread = found.at_image(grid)
        assert spread.shape == (height, width)
        # The middle of the patch, over the content that the grid covers.
        down, right = (side / whole for side, whole in zip(found.content_size, (height, width), strict=True))
        top, left = np.unravel_index(spread.argmax(), spread.shape)
        assert 16 * row <= (top + 0.5) * down <= 16 * (row + 1)
        assert 16 * column <= (left + 0.5) * right <= 16 * (column + 1)


def test_padding_is_cut_off(model):
    found = explain(model, unresized(), picture(40, 50), NOTES[0])
    assert found.prepared_size == (48, 64) and found.content_size == (40, 50)
    ramp = np.broadcast_to(np.arange(4, dtype=np.float32), (3, 4))
    across = found.at_image(ramp)[0]
    # Patch 3 begins at pixel 48: of it only two columns are image, whose values lie well below its own.
    assert across[-1] == pytest.approx((49.5 - 8) / 16, abs=1e-4)
    assert found.patch_interest_at_image.sum() == pytest.approx(1, abs=1e-5)
    assert found.at_image(np.stack([ramp, ramp])).shape == (2, 40, 50)


def test_classes_and_thresholds(processor):
    several = lively(tiny_model(text_config=NOTE_TEXT, num_labels=3))
    found = explain(several, processor, picture(), NOTES[0])
    assert found.probability.shape == (3, 50, 70) and (found.mask == found.probability.argmax(axis=0)).all()


def test_a_threshold(model, processor):
    most = explain(model, processor, picture(), NOTES[0], threshold=0.0)
    assert most.mask.all()


def test_the_model_stays_in_the_mode_that_it_was_in(processor):
    model = lively(tiny_model(text_config=NOTE_TEXT, text_frozen=False))
    model.train()
    model.decoder.blocks[0].eval()
    before = {name: part.training for name, part in model.named_modules()}
    statistics = model.decoder.blocks[1].convs[0].norm.running_mean.clone()
    one, other = (explain(model, processor, picture(), NOTES[0]).probability for _ in range(2))
    assert {name: part.training for name, part in model.named_modules()} == before
    assert torch.equal(statistics, model.decoder.blocks[1].convs[0].norm.running_mean)
    np.testing.assert_array_equal(one, other)  # no dropout


def test_pruned_and_other_models_say_what_to_load(model, processor):
    pruned = tiny_model(text_config=NOTE_TEXT, prune_reconstruction=True)
    for lean in (pruned, model.optimize_for_inference()):
        with pytest.raises(ValueError, match="pruned.*without `prune_reconstruction=True`"):
            explain(lean, processor, picture(), NOTES[0])
    with pytest.raises(ValueError, match="ExportedModel keeps no inner variables"):
        explain(object.__new__(ExportedModel), processor, picture(), NOTES[0])


@pytest.mark.parametrize("note", ["", "  "])
def test_an_empty_note(model, processor, note):
    with pytest.raises(ValueError, match="note is empty"):
        explain(model, processor, picture(), note)


def test_no_note(model):
    with pytest.raises(TypeError, match="trained with notes only"):
        explain(model, tiny_processor(NOTES), picture(), None)
    processor = tiny_processor(NOTES)
    processor.null_note = True
    found = explain(lively(tiny_model(text_config=NOTE_TEXT, note_dropout=0.2)), processor, picture(), None)
    assert found.words == () and found.weighted_words == [] and found.word_interest is None
    assert found.word_attention.shape == (0, 4, 4) and found.patch_interest.sum() == pytest.approx(1, abs=1e-5)


def test_presence(processor):
    found = explain(lively(tiny_model(text_config=NOTE_TEXT, presence=True)), processor, picture(), NOTES[0])
    assert 0 <= found.presence <= 1


def test_without_interaction(processor):
    found = explain(lively(tiny_model(text_config=NOTE_TEXT, interaction="none")), processor, picture(), NOTES[0])
    assert found.interacted is None and found.word_attention is None and found.patch_attention is None
    assert any("no interaction" in remark for remark in found.remarks)
    assert found.patch_interest is not None and len(found.word_interest) == 3


def test_self_attention_is_cut_out_of_the_joint_map(processor):
    model = lively(tiny_model(text_config=NOTE_TEXT, interaction="self"))
    found = explain(model, processor, picture(), NOTES[0])
    with torch.no_grad():
        inputs = processor(images=picture(), text=NOTES[0], return_tensors="pt")
        joint = model(**inputs, output_attentions=True).attentions["joint"][0].mean(0)
    np.testing.assert_allclose(found.word_attention[1].ravel(), joint[16 + 2, :16], rtol=1e-5)
    np.testing.assert_allclose(found.patch_attention[1].ravel(), joint[:16, 16 + 2], rtol=1e-5)
    assert found.word_attention[1].sum() < 1 and any("together" in remark for remark in found.remarks)


def test_weights_that_no_loss_trains_are_absent_and_said(processor):
    plain = {"contrastive": False, "visual_reconstruction": False, "language_reconstruction": False}
    found = explain(lively(tiny_model(text_config=NOTE_TEXT, **plain)), processor, picture(), NOTES[0])
    assert found.patch_interest is None and found.word_interest is None and found.patch_interest_at_image is None
    assert found.left_out == () and len(found.remarks) == 2 and found.word_attention.shape == (3, 4, 4)
