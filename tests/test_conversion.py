"""Conversion of released checkpoints, on a small network with the released names."""

import numpy as np
import pytest
import torch

from reclmis import RecLMISModel, RecLMISProcessor
from reclmis.conversion import convert_checkpoint, convert_model, convert_state_dict, infer_config, read_checkpoint
from tests.parts import make_inputs


def released(layers=2, width=64, seed=0):
    """A state dict with the released keys at small widths."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}

    def add(name, *shape):
        tensors[name] = 0.1 * torch.randn(*shape, generator=generator)

    def norm(name, size):
        add(f"{name}.weight", size)
        add(f"{name}.bias", size)

    def conv(name, out, inside, *kernel, bias=True):
        add(f"{name}.weight", out, inside, *kernel)
        if bias:
            add(f"{name}.bias", out)

    def block(name, out, inside, *kernel):
        conv(f"{name}.conv", out, inside, *kernel)
        norm(f"{name}.norm", out)
        add(f"{name}.norm.running_mean", out)
        tensors[f"{name}.norm.running_var"] = torch.ones(out)
        tensors[f"{name}.norm.num_batches_tracked"] = torch.tensor(0)

    def attention(name):
        add(f"{name}.in_proj_weight", 3 * width, width)
        add(f"{name}.in_proj_bias", 3 * width)
        conv(f"{name}.out_proj", width, width)

    widths = [4, 6, 8, 12, width]
    block("inc", widths[0], 3, 3, 3)
    for level in range(1, 5):
        block(f"down{level}.nConvs.0", widths[level], widths[level - 1], 3, 3)
        block(f"down{level}.nConvs.1", widths[level], widths[level], 3, 3)
    coarse, outs = width, {4: 12, 3: 8, 2: 6, 1: 6}
    for level in (4, 3, 2, 1):
        skip = widths[level - 1]
        for kind in ("avg", "max"):
            conv(f"up{level}.pixModule.conv_{kind}", skip, skip, 1, 1, bias=False)
        conv(f"up{level}.pixModule.conv_sig.0", skip, skip, 1, 1)
        conv(f"up{level}.pixModule.bottleneck.0", 6, 3)
        conv(f"up{level}.pixModule.bottleneck.2", 1, 6)
        block(f"up{level}.nConvs.0", outs[level], skip + coarse, 3, 3)
        block(f"up{level}.nConvs.1", outs[level], outs[level], 3, 3)
        coarse = outs[level]
    conv("outc", 1, coarse, 1, 1)
    add("interact.embeddings.position_embeddings", 1, 16, width)
    conv("interact.embeddings.patch_embeddings", width, width, 1, 1)
    block("interact.CTBN", width, width, 3)
    attention("interact.attn_text")
    attention("interact.attn_img")
    conv("text_module4", width, width, 3)
    for head in ("mlp_woi", "mlp_visual"):
        conv(f"{head}.0", width, width)
        conv(f"{head}.2", 1, width)
    add("clip.positional_embedding", 77, 64)
    add("clip.text_projection", 64, width)
    tensors["clip.logit_scale"] = torch.tensor(4.6052)
    add("clip.token_embedding.weight", 49408, 64)
    norm("clip.ln_final", 64)
    add("clip.visual.proj", 4, 4)
    for layer in range(1):
        name = f"clip.transformer.resblocks.{layer}"
        add(f"{name}.attn.in_proj_weight", 192, 64)
        add(f"{name}.attn.in_proj_bias", 192)
        conv(f"{name}.attn.out_proj", 64, 64)
        norm(f"{name}.ln_1", 64)
        norm(f"{name}.ln_2", 64)
        conv(f"{name}.mlp.c_fc", 256, 64)
        conv(f"{name}.mlp.c_proj", 64, 256)
    for part in ("text", "img"):
        for stack in (1, 2):
            for layer in range(layers):
                name = f"rec_{part}_trans1.decoder{stack}.decoder_layers.{layer}"
                attention(f"{name}.self_attn")
                attention(f"{name}.encoder_attn")
                for kind in ("self_attn", "encoder_attn", "final"):
                    norm(f"{name}.{kind}_layer_norm", width)
                conv(f"{name}.fc1", 96, width)
                conv(f"{name}.fc2", width, 96)
    return tensors


@pytest.fixture(scope="module")
def tensors():
    return released()


def test_configuration_is_inferred_from_the_shapes(tensors):
    config = infer_config(tensors, max_text_length=10)
    assert config.visual_config == {"widths": [4, 6, 8, 12, 64]}
    assert config.decoder_widths == [12, 8, 6, 6]
    assert (config.hidden_size, config.image_size, config.num_labels) == (64, 64, 1)
    assert (config.reconstruction_layers, config.reconstruction_intermediate_size) == (2, 96)
    assert config.max_text_length == 10
    assert config.contrastive_temperature == pytest.approx(0.01, rel=1e-3)
    assert config.text_padding == "attend" and config.reconstruction_causal


@pytest.mark.parametrize("layers", [3, 4])
def test_number_of_reconstruction_layers(layers):
    model, _ = convert_model(released(layers))
    assert len(model.visual_reconstructor.memory_layers) == layers


def test_every_key_is_converted_or_dropped_with_a_reason(tensors):
    converted, dropped = convert_state_dict(tensors)
    assert all(reason and keys for reason, keys in dropped.items())
    gone = {key for keys in dropped.values() for key in keys}
    assert {"clip.visual.proj", "clip.logit_scale", "mlp_woi.2.bias", "up1.pixModule.conv_sig.0.weight"} <= gone
    model, report = convert_model(tensors)
    assert set(converted) == set(model.state_dict())
    assert report.converted == len(converted)
    assert "image tower" in str(report)


def test_an_unknown_key_is_an_error(tensors):
    with pytest.raises(ValueError, match="surprise.weight"):
        convert_state_dict({**tensors, "surprise.weight": torch.zeros(1)})


def test_a_missing_weight_is_an_error(tensors):
    with pytest.raises(ValueError, match=r"decoder\.blocks\.0\.attention\.average\.weight"):
        convert_model({key: value for key, value in tensors.items() if key != "up4.pixModule.conv_avg.weight"})


def test_something_else_is_no_released_checkpoint():
    with pytest.raises(ValueError, match=r"inc\.conv\.weight"):
        infer_config({"weight": torch.zeros(1)})


def test_converted_weights_train(tensors):
    model, _ = convert_model(tensors)
    inputs = make_inputs(2, 64, 64, labels=True, length=18, vocabulary=1000)
    model.train()(**inputs).loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrapped", [True, False])
def test_reads_checkpoints_with_and_without_wrapping(prefix, wrapped, tmp_path):
    content = {f"{prefix}a.weight": torch.ones(2)}
    if wrapped:
        content = {"epoch": np.int64(3), "best_model": True, "model": "RecLMIS", "state_dict": content,
                   "val_loss": np.float64(0.1), "optimizer": {"param_groups": [{"lr": 0.1}]}}  # fmt: skip
    torch.save(content, tmp_path / "best.pth.tar")
    assert list(read_checkpoint(tmp_path / "best.pth.tar")) == ["a.weight"]


def test_a_malicious_pickle_is_refused_and_not_executed(tmp_path):
    flag = tmp_path / "executed"

    class Planted:
        def __reduce__(self):
            return (open, (str(flag), "w"))

    path = tmp_path / "best.pth.tar"
    torch.save({"state_dict": {"a": torch.ones(1)}, "model": Planted()}, path)
    with pytest.raises(ValueError, match="nothing else in it will be executed"):
        read_checkpoint(path)
    assert not flag.exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_damaged_files_are_named(content, tmp_path):
    (tmp_path / "best.pth.tar").write_bytes(content)
    with pytest.raises(ValueError, match=r"best\.pth\.tar"):
        read_checkpoint(tmp_path / "best.pth.tar")
    with pytest.raises(FileNotFoundError, match="absent"):
        read_checkpoint(tmp_path / "absent.pth.tar")


def test_a_checkpoint_becomes_a_folder_that_loads(tensors, tmp_path):
    pytest.importorskip("open_clip", reason="CLIP's vocabulary comes with open_clip (extra 'clip')")
    torch.save({"state_dict": {f"module.{key}": value for key, value in tensors.items()}}, tmp_path / "best.pth.tar")
    convert_checkpoint(tmp_path / "best.pth.tar", tmp_path / "out")
    model = RecLMISModel.from_pretrained(tmp_path / "out", prune_reconstruction=True)
    processor = RecLMISProcessor.from_pretrained(tmp_path / "out")
    image = torch.zeros(3, 20, 30, dtype=torch.uint8)
    image[0] = 255  # red
    inputs = processor(images=image, text="Left lung.", return_tensors="pt")
    assert inputs["pixel_values"].shape == (1, 3, 64, 64)
    # BGR, divided by 255: red is the last channel
    assert inputs["pixel_values"][0, :, 0, 0].tolist() == [0.0, 0.0, 1.0]
    filled = processor.tokenizer("Left lung." + " EOF XXX" * 7)["input_ids"]
    assert inputs["input_ids"][0].tolist() == [*filled[:17], 49407]
    assert model(**inputs).logits.shape == (1, 1, 64, 64)
    assert processor.image_processor.num_labels == 1
    with pytest.raises(FileExistsError, match="no empty folder"):
        convert_checkpoint(tmp_path / "best.pth.tar", tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"best.pth.tar", "out"}


def test_nothing_is_kept_of_a_conversion_that_does_not_replay(tensors, tmp_path, monkeypatch):
    pytest.importorskip("open_clip", reason="CLIP's vocabulary comes with open_clip (extra 'clip')")
    torch.save(tensors, tmp_path / "best.pth.tar")
    save = RecLMISModel.save_pretrained

    def save_wrongly(self, folder, **options):
        with torch.no_grad():
            self.decoder.head.bias.add_(1)
            save(self, folder, **options)
            self.decoder.head.bias.sub_(1)

    monkeypatch.setattr(RecLMISModel, "save_pretrained", save_wrongly)
    with pytest.raises(RuntimeError, match="answers otherwise"):
        convert_checkpoint(tmp_path / "best.pth.tar", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["best.pth.tar"]


def test_ten_tokens_as_the_monuseg_checkpoint_wants(tensors, tmp_path):
    pytest.importorskip("open_clip", reason="CLIP's vocabulary comes with open_clip (extra 'clip')")
    torch.save(tensors, tmp_path / "best.pth.tar")
    convert_checkpoint(tmp_path / "best.pth.tar", tmp_path / "out", max_text_length=10)
    processor = RecLMISProcessor.from_pretrained(tmp_path / "out")
    ids = processor.tokenize(["The nuclei are evenly distributed."], return_tensors="pt")["input_ids"]
    assert ids.shape == (1, 10) and ids[0, 0] == 49406 and ids[0, -1] == 49407
    assert RecLMISModel.from_pretrained(tmp_path / "out").config.max_text_length == 10
