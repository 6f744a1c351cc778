"""Exports in 8 bits: smaller, and close to what they were made from."""

import shutil

import numpy as np
import pytest
import torch

from reclmis.exported import BACKENDS, ExportedModel
from reclmis.exporting import Manifest
from reclmis.quantization import quantize_static, quantize_weights
from tests.parts import tiny_processor

NOTES = ["upper left lung", "lower right lung"]


@pytest.fixture(scope="module")
def processor():
    return tiny_processor(NOTES)


@pytest.fixture(scope="module")
def requests():
    rng = np.random.default_rng(0)
    return [(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8), NOTES[index % 2]) for index in range(4)]


def size_of(folder):
    return sum(path.stat().st_size for path in folder.glob("*.onnx"))


def weights_of(folder, graph):
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(folder / f"{graph}.onnx"))
    return [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]


def logits_of(folder, backend, processor, requests):
    """Of images that were calibrated with: others would leave the ranges."""
    images, notes = zip(*requests, strict=True)
    inputs = processor(images=list(images), text=list(notes), return_tensors="pt")
    with torch.inference_mode():
        return ExportedModel.from_pretrained(folder, backend, threads=1)(**inputs).logits


@pytest.mark.parametrize("backend", BACKENDS)
def test_weights_alone(exported, processor, requests, tmp_path, backend):
    _, folder = exported
    small = quantize_weights(folder, tmp_path / "small")
    assert Manifest.read(small).precision == "int8 weights"
    for graph in ("image_encoder", "mask_decoder", "text_encoder"):
        kinds = {array.dtype: array.size for array in weights_of(small, graph)}
        assert np.dtype(np.int8) in kinds
        large = [array.shape for array in weights_of(small, graph) if array.dtype == np.float32 and array.ndim > 1]
        # Of the matrices only tables (embeddings, positions) and what is tiny keep 32 bits.
        assert all(np.prod(shape) < 1024 or shape[-1] == 32 for shape in large), large
    before, after = (logits_of(each, backend, processor, requests) for each in (folder, small))
    difference = (after - before).abs()
    assert 0 < difference.mean() < 0.05 * before.std()


@pytest.mark.parametrize("backend", BACKENDS)
def test_activations_too(exported, processor, requests, tmp_path, backend):
    _, folder = exported
    small = quantize_static(folder, tmp_path / "small", processor, requests)
    assert Manifest.read(small).precision == "int8"
    import onnx

    for graph in ("image_encoder", "mask_decoder"):
        nodes = onnx.load(str(small / f"{graph}.onnx")).graph.node
        fed = {name for node in nodes if node.op_type == "DequantizeLinear" for name in node.output}
        convolutions = [node for node in nodes if node.op_type == "Conv"]
        assert convolutions and all({*node.input[:2]} <= fed for node in convolutions)
    before, after = (logits_of(each, backend, processor, requests) for each in (folder, small))
    correlation = torch.corrcoef(torch.stack([before.flatten(), after.flatten()]))[0, 1]
    assert correlation > 0.9 and not torch.equal(before, after)


def test_asks_no_more_than_it_should(exported, processor, tmp_path):
    asked = []

    def endless():
        while True:
            asked.append(1)
            yield np.full((64, 64, 3), 100, dtype=np.uint8), NOTES[0]

    quantize_static(exported[1], tmp_path / "small", processor, endless(), count=2)
    assert len(asked) == 2


def test_refusals(exported, processor, requests, tmp_path):
    _, folder = exported
    with pytest.raises(ValueError, match="at least one image"):
        quantize_static(folder, tmp_path / "small", processor, [])
    with pytest.raises(ValueError, match="another folder"):
        quantize_weights(folder, folder)
    with pytest.raises(FileNotFoundError, match="reclmis export"):
        quantize_weights(tmp_path, tmp_path / "small")
    small = quantize_weights(folder, tmp_path / "small")
    with pytest.raises(ValueError, match="quantised already"):
        quantize_static(small, tmp_path / "smaller", processor, requests)
    assert not (tmp_path / "smaller").exists()


def test_the_command(exported, tmp_path, capsys):
    from PIL import Image

    from reclmis.cli import main

    _, folder = exported
    Image.new("RGB", (64, 64), (90, 120, 30)).save(tmp_path / "a.png")
    images = ["--images", str(tmp_path / "a.png"), "--note", NOTES[0]]
    assert main(["quantize", str(folder), str(tmp_path / "int8"), *images]) == 0
    assert "MB became" in capsys.readouterr().out
    assert main(["quantize", str(folder), str(tmp_path / "weights"), "--weights-only"]) == 0
    assert size_of(tmp_path / "weights") < size_of(folder)
    capsys.readouterr()
    assert main(["quantize", str(tmp_path), str(tmp_path / "none"), "--weights-only"]) == 2
    assert main(["quantize", str(folder), str(tmp_path / "none")]) == 2
    assert "--note" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "int8")
