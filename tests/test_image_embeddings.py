"""An image is encoded once, and asked as often as one likes."""

import pytest
import torch

from reclmis.image_embeddings import ImageEmbeddings
from tests.parts import lively, make_inputs, tiny_model

MODELS = {
    "unet": {},
    "timm": {"visual_backbone": "timm:resnet18", "visual_config": {}},
    "presence": {"note_dropout": 0.2, "presence": True},
}


def notes_of(inputs):
    return {key: inputs[key] for key in ("input_ids", "attention_mask")}


@pytest.mark.parametrize("optimized", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_many_notes_of_one_image_are_as_many_calls(name, optimized):
    model = lively(tiny_model(**MODELS[name]))
    model = model.optimize_for_inference() if optimized else model
    inputs = make_inputs(4)
    pixels = inputs["pixel_values"][:1]
    with torch.inference_mode():
        image = model.get_image_embeddings(pixels)
        kept = [tensor.clone() for tensor in (image.visual, *image.skips)]
        together = model(image_embeddings=image, **notes_of(inputs))
        alone = [
            model(pixels, **{key: value[row : row + 1] for key, value in notes_of(inputs).items()}) for row in range(4)
        ]
    assert together.logits.std(dim=0).max() > 0.01  # the note matters
    assert torch.allclose(together.logits, torch.cat([one.logits for one in alone]), atol=2e-4)
    assert all(torch.equal(now, then) for now, then in zip((image.visual, *image.skips), kept, strict=True))
    if model.config.presence:
        expected = torch.cat([one.presence_logits for one in alone])
        assert torch.allclose(together.presence_logits, expected, atol=1e-4)


def test_is_the_whole_model_to_the_bit_and_needs_no_note():
    model = lively(tiny_model(**MODELS["presence"]))
    inputs = make_inputs(3)
    with torch.inference_mode():
        image = model.get_image_embeddings(inputs["pixel_values"])
        assert torch.equal(model(image_embeddings=image, **notes_of(inputs)).logits, model(**inputs).logits)
        assert torch.equal(model(image_embeddings=image).logits, model(inputs["pixel_values"]).logits)


def test_rows_and_batches():
    model = lively(tiny_model())
    inputs = make_inputs(3)
    with torch.inference_mode():
        image = model.get_image_embeddings(inputs["pixel_values"])
        again = ImageEmbeddings.concatenate([image[2:], image[[0, 1]]])
        assert len(image) == 3 and len(again) == 3 and again.image_size == (64, 64)
        assert torch.equal(again.visual, image.visual[[2, 0, 1]])
        assert all(torch.equal(ours, skip[[2, 0, 1]]) for ours, skip in zip(again.skips, image.skips, strict=True))
        other = model.get_image_embeddings(make_inputs(1, 32, 64)["pixel_values"])
    with pytest.raises(ValueError, match="32 x 64, 64 x 64"):
        ImageEmbeddings.concatenate([image, other])
    with pytest.raises(ValueError, match="no images at all"):
        ImageEmbeddings.concatenate([])
    with pytest.raises(TypeError, match=r"\[1:2\]"):
        image[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixel_values": torch.zeros(1, 3, 64, 64)}, "either `pixel_values`, or `image_embeddings`"),
        ({"image_embeddings": None}, "either `pixel_values`, or `image_embeddings`"),
        ({"labels": torch.zeros(2, 64, 64, dtype=torch.long)}, "for inference"),
        ({"output_hidden_states": True}, "no hidden states"),
        ({"input_ids": torch.ones(3, 12, dtype=torch.long), "attention_mask": None}, "2 images, but 3 notes"),
        ({"input_ids": None, "attention_mask": None}, "A note is missing"),
    ],
)
def test_refuses_what_does_not_fit(changes, message):
    model = tiny_model()
    inputs = make_inputs(2)
    inputs = {"image_embeddings": model.get_image_embeddings(inputs["pixel_values"]), **notes_of(inputs)}
    with pytest.raises(ValueError, match=message):
        model(**{**inputs, **changes})


def test_refuses_pixels_that_the_backbone_cannot_take():
    with pytest.raises(ValueError, match="multiples of 16"):
        tiny_model().get_image_embeddings(torch.zeros(1, 3, 64, 60))
