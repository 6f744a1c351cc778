"""The optimised copy answers as the model does."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reclmis import RecLMISConfig, RecLMISModel
from reclmis.decoder import subpixel_weight
from reclmis.inference import FoldedUpBlock
from reclmis.profiling import count_cost
from tests.parts import TINY_TEXT, lively, make_inputs, tiny_model

BACKBONES = {
    "unet": {},
    "stride 4": {"visual_backbone": "timm:resnet18", "visual_config": {}},
    "stride 2": {"visual_backbone": "timm:tf_efficientnet_lite0", "visual_config": {}},
    "patches of 16": {"visual_backbone": "timm:vit_tiny_patch16_224", "visual_config": {}},
    "classes": {"id2label": {0: "background", 1: "a", 2: "b"}},
    "beyond": {"note_dropout": 0.2, "presence": True},
}


@pytest.mark.parametrize("sides", [(1, 1), (2, 3), (7, 5)])
def test_convolution_of_an_upsampled_map_is_a_transposed_one_of_the_map(sides):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 2, 3, 3, generator=generator, dtype=torch.float64)
    small = torch.randn(2, 2, *sides, generator=generator, dtype=torch.float64)
    expected = F.conv2d(F.interpolate(small, scale_factor=2.0, mode="nearest"), weight, padding=1)
    ours = F.conv_transpose2d(small, subpixel_weight(weight), stride=2, padding=1)
    assert torch.allclose(ours, expected, atol=1e-12)


@pytest.mark.parametrize("name", BACKBONES)
def test_answers_are_equal_up_to_rounding(name):
    inputs = make_inputs(3, 64, 64)
    model = lively(tiny_model(**BACKBONES[name]), inputs)
    for dtype, tolerance in ((torch.float32, 2e-3), (torch.float64, 1e-6)):
        model, inputs["pixel_values"] = model.to(dtype), inputs["pixel_values"].to(dtype)
        fast = model.optimize_for_inference()
        with torch.inference_mode():
            for batch in (inputs, {key: value[:1] for key, value in inputs.items()}):
                wanted, given = model(**batch), fast(**batch)
                assert wanted.logits.std() > 0.1
                assert torch.allclose(wanted.logits, given.logits, atol=tolerance)
        if model.config.presence:
            assert torch.allclose(wanted.presence_logits, given.presence_logits, atol=1e-4)
        assert given.patch_interest is None


def test_other_sizes_and_memory_formats():
    model = lively(tiny_model())
    fast = model.optimize_for_inference()
    for height, width in ((16, 48), (96, 64)):
        inputs = make_inputs(2, height, width)
        with torch.inference_mode():
            wanted = model(**inputs).logits
            assert torch.allclose(fast(**inputs).logits, wanted, atol=1e-3)
            inputs["pixel_values"] = inputs["pixel_values"].contiguous(memory_format=torch.channels_last)
            assert torch.allclose(fast(**inputs).logits, wanted, atol=1e-3)


def test_the_model_itself_stays_and_trains_on():
    model = tiny_model()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fast = model.optimize_for_inference()
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not model.config.prune_reconstruction and model.language_reconstructor is not None
    model.train()(**make_inputs(labels=True)).loss.backward()
    with pytest.raises(ValueError, match="pruned model cannot be trained"):
        fast.train()


def test_is_neither_saved_nor_trained(tmp_path):
    fast = tiny_model(prune_reconstruction=True).optimize_for_inference()
    with pytest.raises(ValueError, match="save the model that it was made from"):
        fast.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())
    assert not any(parameter.requires_grad for parameter in fast.parameters())


def test_saves_five_ninths_of_the_upsampled_half():
    text = {"text_encoder": "tokens", "text_config": TINY_TEXT}
    model = RecLMISModel(RecLMISConfig.base(prune_reconstruction=True, **text))
    widths = [(512, 256, 28), (256, 128, 56), (128, 64, 112), (64, 64, 224)]
    saved = sum(5 * wide * narrow * side**2 for wide, narrow, side in widths)
    blocks = sum(isinstance(block, FoldedUpBlock) for block in model.optimize_for_inference().decoder.blocks)
    assert blocks == len(widths)
    before, after = (count_cost(each).macs for each in (model, model.optimize_for_inference()))
    assert before - after == saved


def test_embeddings_of_the_other_form_are_refused():
    model, inputs = tiny_model(), make_inputs()
    fast = model.optimize_for_inference()
    pixels = inputs.pop("pixel_values")
    with pytest.raises(ValueError, match="come from another model, but this is an optimised one"):
        fast(image_embeddings=model.get_image_embeddings(pixels), **inputs)
    with pytest.raises(ValueError, match="come from an optimised model"):
        model(image_embeddings=fast.get_image_embeddings(pixels)[:1], **inputs)


def test_convolutions_that_are_more_than_their_weights_are_left_alone():
    inputs = make_inputs()
    model = lively(tiny_model(), inputs)
    nn.utils.parametrizations.weight_norm(model.decoder.blocks[0].convs[0].conv)
    model.visual_backbone.stem.conv.register_forward_hook(lambda module, given, result: 2 * result)
    fast = model.optimize_for_inference()
    assert [isinstance(block, FoldedUpBlock) for block in fast.decoder.blocks] == [False, True, True, True]
    with torch.inference_mode():
        assert torch.allclose(model(**inputs).logits, fast(**inputs).logits, atol=1e-3)


def test_autocast_does_not_reach_the_weights():
    model, inputs = tiny_model(), make_inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fast = model.optimize_for_inference()
    assert {parameter.dtype for parameter in fast.parameters()} == {torch.float32}
    with torch.inference_mode():
        assert torch.allclose(model(**inputs).logits, fast(**inputs).logits, atol=1e-3)
