"""Against outputs of the authors' released network, on weights rebuilt from a seed."""

import importlib.util

import pytest
import torch
from safetensors.torch import load_file

from reclmis.conversion import convert_model

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def golden(shared):
    return load_file(shared / "golden" / "official_seed0.safetensors")


@pytest.fixture(scope="module")
def converted(shared):
    spec = importlib.util.spec_from_file_location("golden_weights", shared / "golden" / "weights.py")
    weights = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(weights)
    return convert_model(weights.state_dict(seed=0, reconstruction_layers=3))


@pytest.fixture(scope="module")
def model(converted):
    return converted[0]


@pytest.fixture(scope="module")
def outputs(model, golden):
    with torch.no_grad():
        return model(golden["pixel_values"], golden["input_ids"], golden["attention_mask"], output_features=True)


def assert_close(ours, released):
    error = (ours - released).abs().max() / released.abs().max()
    assert error < TOLERANCE, f"relative error {error:.2e}"


def test_text_tower(model, golden):
    with torch.no_grad():
        states = model.encode_text(golden["input_ids"], golden["attention_mask"])
    assert_close(states, golden["act_clip_text_hidden"])


@pytest.mark.parametrize(
    ("ours", "released"),
    [
        ("visual_features", "act_down4"),
        ("text_features", "act_text_projected"),
        ("interacted_patches", "act_interact_image"),
        ("interacted_words", "act_interact_text"),
        ("patch_interest", "patch_weight"),
        ("word_interest", "word_weight"),
        ("logits", "act_outc"),
    ],
)
def test_activations(outputs, golden, ours, released):
    assert_close(outputs[ours], golden[released])


def test_mask_probability(outputs, golden):
    assert_close(outputs.logits.sigmoid(), golden["mask_probability"])


@torch.no_grad()
def test_reconstructions_for_the_released_masks(model, golden):
    visual = golden["act_down4"].flatten(2).transpose(1, 2)
    arguments = (golden["patch_weight"], golden["word_weight"], None)
    words = golden["act_text_projected"]
    rebuilt_visual = model.reconstruct_visual(visual, words, golden["patch_masked"].bool(), *arguments)
    rebuilt_words = model.reconstruct_language(visual, words, golden["word_masked"].bool(), *arguments)
    assert_close(rebuilt_visual, golden["act_reconstructed_img"])
    assert_close(rebuilt_words, golden["act_reconstructed_text"])


@pytest.fixture(scope="module")
def loss_terms(model, golden):
    """All terms of one forward pass, with the released masks in place of drawn ones."""
    draws = iter([golden["patch_masked"].bool(), golden["word_masked"].bool()])
    original, model._draw = model._draw, lambda *arguments: next(draws)
    try:
        with torch.no_grad():
            return model(
                golden["pixel_values"], golden["input_ids"], golden["attention_mask"], labels=golden["labels"].long()
            ).loss_terms
    finally:
        model._draw = original


@pytest.mark.parametrize(
    ("ours", "released"),
    [
        ("visual_reconstruction", "loss_img_rec"),
        ("language_reconstruction", "loss_text_rec"),
        ("contrastive", "loss_ccl"),
    ],
)
def test_auxiliary_losses(loss_terms, golden, ours, released):
    assert_close(loss_terms[ours], golden[released])


def test_segmentation_loss(loss_terms, golden):
    ours = 0.5 * loss_terms["dice"] + 0.5 * loss_terms["cross_entropy"]
    assert_close(ours, golden["loss_segmentation_per_pixel_mean"])


def test_report_names_what_was_dropped_and_why(converted):
    report = converted[1]
    reasons = " ".join(report.dropped)
    assert "image tower" in reasons and "PLAM" in reasons and "memory stack" in reasons
    assert report.config.reconstruction_layers == 3
    assert report.config.text_padding == "attend"
