"""Exported graphs in 8 bits: weights alone, for smaller files, or activations too, for speed on CPUs that multiply
bytes."""

import logging
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from .exported import ExportedModel
from .exporting import (
    GRAPHS,
    IMAGE_ENCODER,
    MASK_DECODER,
    TEXT_ENCODER,
    Manifest,
    check_packages,
    check_target,
    new_folder,
)

# The axis of output channels of each operator's weight.
_CHANNEL_AXES = {"Conv": 0, "ConvTranspose": 1, "MatMul": 1}
# Smaller tensors cost more in scales than they save.
_SMALLEST = 1024


def quantize_weights(folder: str | Path, output: str | Path) -> Path:
    """Writes an export whose convolution and matrix weights are int8, one scale per output channel.

    Convolutions and matrices take a quarter of their size; tables of embeddings stay as they are. Runtimes turn the weights
    back, so that nothing is faster.

    Args:
        folder: of [`reclmis.exporting.export_onnx`], in float32.
        output: a folder of its own; an earlier export in it is replaced.

    Raises:
        FileNotFoundError, ValueError: no export there, or one that is quantised already.
        MissingPackageError: `pip install reclmis[onnx]` is due.
    """
    folder, output, manifest = _checked(folder, output)
    with new_folder(output) as new:
        for name in GRAPHS:
            _with_byte_weights(folder / f"{name}.onnx", new / f"{name}.onnx")
        _copy_the_rest(folder, new, replace(manifest, precision="int8 weights"))
    return output


def quantize_static(
    folder: str | Path, output: str | Path, processor: Any, requests: Iterable[tuple[Any, str | None]], count: int = 32
) -> Path:
    """Writes an export whose image encoder and mask decoder compute in int8, and whose text encoder has int8 weights.

    Ranges of activations are the least and greatest values that these requests lead to, so they should look like what
    the model will be asked; measure the Dice of the result, as benchmarks/quantization.py does.

    Args:
        folder: of [`reclmis.exporting.export_onnx`], in float32.
        output: a folder of its own; an earlier export in it is replaced.
        processor: the model's.
        requests: pairs of image and note, as for [`reclmis.prediction.predict`].
        count: at most so many of them are used.

    Raises:
        FileNotFoundError, ValueError: no export there, one that is quantised already, or no request.
        MissingPackageError: `pip install reclmis[onnx]` is due.
    """
    folder, output, manifest = _checked(folder, output)
    model = ExportedModel.from_pretrained(folder)
    recorder = _Recorder(model)
    from .prediction import predict

    answered = sum(1 for _ in predict(recorder, processor, islice(requests, count), batch_size=1))
    if not answered:
        raise ValueError("Calibration needs at least one image and its note.")
    with new_folder(output) as new:
        for name in (IMAGE_ENCODER, MASK_DECODER):
            _quantized(folder / f"{name}.onnx", new / f"{name}.onnx", recorder.inputs[name])
        _with_byte_weights(folder / f"{TEXT_ENCODER}.onnx", new / f"{TEXT_ENCODER}.onnx")
        _copy_the_rest(folder, new, replace(manifest, precision="int8"))
    return output


def _checked(folder: str | Path, output: str | Path) -> tuple[Path, Path, Manifest]:
    check_packages("onnx", "onnxruntime")
    folder, output = Path(folder), Path(output)
    manifest = Manifest.read(folder)
    if manifest.precision != "float32":
        raise ValueError(f"{folder} is quantised already ({manifest.precision}); start from the export in float32.")
    if folder.resolve() == output.resolve():
        raise ValueError(f"The quantised export needs another folder than {folder}, which it is made from.")
    check_target(output)
    return folder, output, manifest


def _copy_the_rest(folder: Path, new: Path, manifest: Manifest) -> None:
    for path in folder.iterdir():
        if path.is_file() and path.suffix in (".json", ".txt", ".jinja"):
            shutil.copy(path, new / path.name)
    manifest.write(new)


class _Recorder:
    """An exported model that keeps what its graphs were given."""

    def __init__(self, model: ExportedModel) -> None:
        self._model = model
        self.inputs: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in GRAPHS}
        for name, runner in model._runners.items():
            model._runners[name] = self._recording(name, runner)

    def _recording(self, name: str, runner: Any) -> Any:
        def run(arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
            self.inputs[name].append(arrays)
            return runner(arrays)

        return run

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._model(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def eval(self) -> "_Recorder":
        return self


def _quantized(source: Path, target: Path, inputs: list[dict[str, np.ndarray]]) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType
    from onnxruntime.quantization import quantize_static as quantize

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._inputs = iter(inputs)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._inputs, None)

    with _quiet():
        quantize(
            str(source), str(target), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv", "ConvTranspose", "MatMul", "Gemm"],
        )  # fmt: skip


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser advises on the root logger to simplify graphs that are simplified already."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


def _with_byte_weights(source: Path, target: Path) -> None:
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(str(source))
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    axes: dict[str, int] = {}
    for node in graph.node:
        if node.op_type in _CHANNEL_AXES and len(node.input) > 1 and node.input[1] in weights:
            axes[node.input[1]] = _CHANNEL_AXES[node.op_type]
        elif node.op_type == "Gemm" and node.input[1] in weights:
            transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
            axes[node.input[1]] = 0 if transposed else 1
    added = []
    for name, axis in axes.items():
        values = numpy_helper.to_array(weights[name])
        if values.dtype != np.float32 or values.size < _SMALLEST or axis >= values.ndim:
            continue
        others = tuple(place for place in range(values.ndim) if place != axis)
        scale = np.maximum(np.abs(values).max(axis=others) / 127.0, np.finfo(np.float32).tiny).astype(np.float32)
        spread = scale.reshape([-1 if place == axis else 1 for place in range(values.ndim)])
        bytes_ = np.clip(np.round(values / spread), -127, 127).astype(np.int8)
        graph.initializer.remove(weights[name])
        graph.initializer.extend(
            [numpy_helper.from_array(bytes_, f"{name}_int8"), numpy_helper.from_array(scale, f"{name}_scale")]
        )
        added.append(
            helper.make_node("DequantizeLinear", [f"{name}_int8", f"{name}_scale"], [name], f"{name}_float", axis=axis)
        )
    # Before the nodes that read them.
    nodes = [*added, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, str(target))


__all__ = ["quantize_static", "quantize_weights"]
