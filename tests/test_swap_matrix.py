"""Every swapped part keeps the same promises: 14 timm families and 8 text encoders through one contract."""

import os
import subprocess
import sys

import pytest
import torch

from reclmis import RecLMISConfig, RecLMISModel
from tests.parts import lively, make_inputs, tiny_config
from tests.text.test_encoders import ENCODERS

# Name -> arguments of timm that make a small one, image size, channels.
BACKBONES = {
    "resnet18": ({}, 64, 3),
    "regnetx_002": ({}, 64, 1),  # a grey stem
    "convnext_atto": ({"depths": (1, 1, 1, 1)}, 64, 3),
    "tf_efficientnet_lite0": ({}, 64, 3),
    "mobilenetv3_small_050": ({}, 96, 1),
    "ghostnet_050": ({}, 64, 3),
    "edgenext_xx_small": ({"depths": (1, 1, 1, 1)}, 64, 3),
    "mobilevit_xxs": ({}, 64, 3),
    "pvt_v2_b0": ({"depths": (1, 1, 1, 1)}, 64, 3),
    "swin_tiny_patch4_window7_224": ({"depths": (1, 1, 1, 1), "embed_dim": 24}, 64, 3),
    "vit_tiny_patch16_224": ({"depth": 3}, 64, 3),
    "eva02_tiny_patch14_224": ({"depth": 3}, 56, 3),  # stride 14
    "beit_base_patch16_224": ({"depth": 3, "embed_dim": 48, "num_heads": 2}, 64, 3),
    "maxvit_rmlp_pico_rw_256": ({"depths": (1, 1, 1, 1)}, 64, 3),
}
# Those whose buffers are in no checkpoint must be right in another process, too.
CARRY_BUFFERS = ("swin_tiny_patch4_window7_224", "eva02_tiny_patch14_224", "beit_base_patch16_224",
                 "maxvit_rmlp_pico_rw_256")  # fmt: skip


def image_config(name):
    arguments, size, channels = BACKBONES[name]
    return tiny_config(visual_backbone=f"timm:{name}", visual_config=arguments, image_size=size, num_channels=channels)


def text_config(name):
    part_id, config = ENCODERS[name]
    return tiny_config(text_encoder=part_id, text_config=config)


CASES = {**{f"timm:{name}": (image_config, name) for name in BACKBONES},
         **{f"text:{name}": (text_config, name) for name in ENCODERS}}  # fmt: skip


def inputs_for(config: RecLMISConfig, batch=2, labels=False):
    inputs = make_inputs(batch, config.image_size, config.image_size, labels=labels)
    inputs["pixel_values"] = inputs["pixel_values"][:, : config.num_channels]
    return inputs


@pytest.fixture(scope="module", params=CASES)
def model(request):
    make, name = CASES[request.param]
    torch.manual_seed(0)
    config = make(name)
    return lively(RecLMISModel(config), inputs_for(config, batch=4))


@torch.no_grad()
def test_shapes_and_padding(model):
    inputs = inputs_for(model.config)
    logits = model(**inputs).logits
    assert logits.shape == (2, 1, model.config.image_size, model.config.image_size) and logits.isfinite().all()
    changed = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, 9)
    torch.testing.assert_close(model(**{**inputs, "input_ids": changed}).logits, logits, atol=1e-5, rtol=1e-5)
    alone = {key: value[:1] for key, value in inputs.items()}
    torch.testing.assert_close(model(**alone).logits, logits[:1], atol=1e-4, rtol=1e-4)


def test_sizes_that_do_not_fit_are_named(model):
    inputs = inputs_for(model.config)
    side = model.config.image_size + 3
    inputs["pixel_values"] = torch.zeros(2, model.config.num_channels, side, side)
    with pytest.raises(ValueError, match=rf"{side} x {side}"):
        model(**inputs)


def test_every_trainable_parameter_gets_a_gradient(model):
    model.zero_grad()
    model.train()(**inputs_for(model.config, labels=True)).loss.backward()
    model.eval()
    lost = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not lost, lost


def test_saved_loaded_and_pruned_to_the_bit(model, tmp_path):
    model.save_pretrained(tmp_path)
    inputs = inputs_for(model.config)
    with torch.no_grad():
        expected = model(**inputs).logits
        assert torch.equal(RecLMISModel.from_pretrained(tmp_path)(**inputs).logits, expected)
        pruned = RecLMISModel.from_pretrained(tmp_path, prune_reconstruction=True)
        assert torch.equal(pruned(**inputs).logits, expected)
    assert pruned.num_parameters() < model.num_parameters()


def test_the_swapped_part_is_one_graph(model):
    """The rest of the model, which is the same for all, is compiled in `test_modeling_reclmis.py`."""
    torch.compiler.reset()
    inputs = inputs_for(model.config)
    if model.config.visual_backbone == "unet":
        part, arguments = model.text_encoder, (inputs["input_ids"], inputs["attention_mask"])
    else:
        part, arguments = model.visual_backbone, (inputs["pixel_values"],)
    with torch.no_grad():
        compiled = torch.compile(part, backend="eager", fullgraph=True)(*arguments)
        torch.testing.assert_close(compiled, part(*arguments), atol=1e-5, rtol=1e-5)


FRESH = """
import socket, sys, torch
asked = []
def refused(self, address):
    asked.append(address)
    raise OSError(f"asked for {address}")
socket.socket.connect = refused
from reclmis import RecLMISModel
folder, = sys.argv[1:]
for name in open(f"{folder}/names").read().split():
    inputs, expected = torch.load(f"{folder}/{name}.pt")
    with torch.no_grad():
        assert torch.equal(RecLMISModel.from_pretrained(f"{folder}/{name}")(**inputs).logits, expected), name
assert not asked, asked
"""


def test_in_a_fresh_interpreter_buffers_are_rebuilt_and_nobody_is_asked(tmp_path):
    """Without `HF_HUB_OFFLINE`: loading a folder looks up neither the network's name nor the encoder's."""
    configs = {name: image_config(name) for name in CARRY_BUFFERS} | {
        name: text_config(name) for name in ("clip", "bert")
    }
    for name, config in configs.items():
        torch.manual_seed(0)
        model = RecLMISModel(config).eval()
        inputs = inputs_for(config)
        model.save_pretrained(tmp_path / name)
        with torch.no_grad():
            torch.save((inputs, model(**inputs).logits), tmp_path / f"{name}.pt")
    (tmp_path / "names").write_text("\n".join(configs))
    online = {key: value for key, value in os.environ.items() if key not in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")}
    command = [sys.executable, "-c", FRESH, tmp_path]
    done = subprocess.run(command, env=online, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
