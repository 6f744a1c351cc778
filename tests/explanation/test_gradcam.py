"""Grad-CAM against a derivative of our own."""

import sys

import numpy as np
import pytest
import torch

from reclmis.errors import MissingPackageError
from reclmis.explanation import explain, grad_cam
from tests.explanation.conftest import NOTES, picture
from tests.explanation.test_maps import unresized
from tests.parts import NOTE_TEXT, lively, tiny_model, tiny_processor


def by_hand(model, inputs, inside, foreground=lambda logits: logits[:, 0]):
    """ReLU(sum over channels of mean gradient times activation), by autograd alone."""
    layer = {}
    hook = model.decoder.blocks[0].register_forward_hook(lambda module, given, output: layer.update(output=output))
    logits = model(**inputs).logits
    hook.remove()
    (foreground(logits) * inside).sum().backward(inputs=[layer["output"].retain_grad() or layer["output"]])
    weights = layer["output"].grad.mean(dim=(2, 3), keepdim=True)
    return (weights * layer["output"]).sum(dim=1).relu()[0].detach().numpy()


def test_agrees_with_autograd(model, processor):
    image = picture(64, 64)
    inputs = processor(images=image, text=NOTES[0], return_tensors="pt")
    with torch.no_grad():
        inside = model(**inputs).logits[0, 0].sigmoid() >= 0.5
    assert inside.any() and not inside.all()
    heat = grad_cam(model, processor, image, NOTES[0])
    expected = by_hand(model, inputs, inside)
    assert heat.shape == (8, 8) and heat.max() > 0
    np.testing.assert_allclose(heat, expected, rtol=1e-4, atol=1e-5 * expected.max())


def test_a_region_of_the_image_is_a_region_of_what_the_model_sees(model):
    image = picture(40, 50)
    region = np.zeros((40, 50), dtype=bool)
    region[5:20, 30:] = True
    inside = torch.zeros(48, 64)
    inside[5:20, 30:50] = 1
    processor = unresized()
    heat = grad_cam(model, processor, image, NOTES[0], region=region)
    inputs = processor(images=image, text=NOTES[0], return_tensors="pt")
    expected = by_hand(model, inputs, inside)
    np.testing.assert_allclose(heat, expected, rtol=1e-4, atol=1e-5 * expected.max())
    assert explain(model, processor, image, NOTES[0]).at_image(heat).shape == (40, 50)


def test_several_classes_count_as_one_foreground(processor):
    model = lively(tiny_model(text_config=NOTE_TEXT, num_labels=3))
    image = picture(64, 64)
    region = np.ones((64, 64), dtype=bool)
    heat = grad_cam(model, processor, image, NOTES[0], region=region)
    inputs = processor(images=image, text=NOTES[0], return_tensors="pt")
    expected = by_hand(
        model, inputs, torch.ones(64, 64), lambda logits: torch.logsumexp(logits[:, 1:], dim=1) - logits[:, 0]
    )
    np.testing.assert_allclose(heat, expected, rtol=1e-4, atol=1e-5 * max(expected.max(), 1))


@pytest.mark.parametrize("frozen", [False, True])
def test_the_model_stays_as_it_was(processor, frozen):
    model = lively(tiny_model(text_config=NOTE_TEXT, visual_frozen=True)).train()
    model.requires_grad_(not frozen)
    training = {name: part.training for name, part in model.named_modules()}
    asked = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    state = {name: value.clone() for name, value in model.state_dict().items()}
    region = np.ones((50, 70), dtype=bool)
    assert grad_cam(model, processor, picture(), NOTES[0], region=region).max() > 0
    with torch.no_grad():  # as within a loop of evaluation
        grad_cam(model, processor, picture(), NOTES[0], region=region)
    assert {name: part.training for name, part in model.named_modules()} == training
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == asked
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not model.decoder.blocks[0]._forward_hooks


def test_the_note_changes_it_and_so_do_random_weights(model, processor):
    region = np.ones((50, 70), dtype=bool)
    one, other = (grad_cam(model, processor, picture(), note, region=region) for note in NOTES)
    assert not np.allclose(one, other)
    torch.manual_seed(1)
    random = type(model)(model.config).eval()
    assert not np.allclose(one, grad_cam(random, processor, picture(), NOTES[0], region=region))


def test_a_pruned_model_serves_too(model, processor):
    lean = model.optimize_for_inference()
    one, other = (grad_cam(each, processor, picture(), NOTES[0]) for each in (model, lean))
    np.testing.assert_allclose(one, other, atol=1e-3 * one.max())


def test_what_cannot_be_asked(model, processor, monkeypatch):
    with pytest.raises(ValueError, match="region is empty"):
        grad_cam(model, processor, picture(), NOTES[0], region=np.zeros((50, 70)))
    with pytest.raises(ValueError, match=r"50 x 70.*\(70, 50\)"):
        grad_cam(model, processor, picture(), NOTES[0], region=np.ones((70, 50)))
    with pytest.raises(ValueError, match="note is empty"):
        grad_cam(model, processor, picture(), " ")
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(MissingPackageError, match=r"reclmis\[explain\]"):
        grad_cam(model, tiny_processor(NOTES), picture(), NOTES[0])
