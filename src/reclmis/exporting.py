"""A model as three graphs for other runtimes: what sees, what reads, and what draws the mask of both.

Cut where the note meets the image, they keep what makes the model cheap to ask: an image is encoded once for many notes,
and a note once for many images.
"""

import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from .errors import MissingPackageError
from .image_embeddings import ImageEmbeddings

OPSET = 18
MANIFEST = "export.json"
# All that an export consists of.
EXPORTED = ("*.json", "*.onnx", "*.onnx.data", "*.txt", "*.jinja")
IMAGE_ENCODER, TEXT_ENCODER, MASK_DECODER = GRAPHS = ("image_encoder", "text_encoder", "mask_decoder")
# Beyond this a protocol buffer cannot hold the weights, and they go to a file beside the graph.
_LARGEST_GRAPH = 1_800_000_000
# Of the largest logit: how far rounding may take a runtime from PyTorch.
_TOLERANCE = 3e-4


@dataclass(frozen=True)
class Manifest:
    """What a runtime must know of exported graphs; `export.json`.

    Attributes:
        stride: height and width of an image are multiples of it.
        image_size: `[height, width]` where the graphs take one size only, else `None`.
        text_width: W, of the text encoder's hidden states.
        vocab_size: of the text encoder.
        skips: number of prepared skips between image encoder and mask decoder.
        presence: whether the mask decoder also judges presence.
        optimized: whether the model was optimised for inference before.
        antialiased: whether the image encoder resizes with antialiasing inside, as backbones with learned positions do;
            OpenVINO leaves the antialiasing out.
        precision: `"float32"`, or how the graphs were quantised.
        versions: of the packages that wrote them.
    """

    stride: int
    image_size: list[int] | None
    text_width: int
    vocab_size: int
    skips: int
    presence: bool
    optimized: bool
    antialiased: bool = False
    precision: str = "float32"
    opset: int = OPSET
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Raises:
        FileNotFoundError: nothing was exported here.
        ValueError: a file that is damaged or of another version.
        """
        path = folder / MANIFEST
        if not path.is_file():
            raise FileNotFoundError(
                f"{folder} holds no exported model: {MANIFEST} is missing. Make one with `reclmis export`."
            )
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} cannot be read: {error}. Export the model again.") from error

    def write(self, folder: Path) -> None:
        (folder / MANIFEST).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


class _ImageEncoder(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values):
        embeddings = self.model.get_image_embeddings(pixel_values)
        return (embeddings.visual, *embeddings.skips)


class _TextEncoder(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return self.model.encode_text(input_ids, attention_mask)


class _MaskDecoder(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, text_hidden_states, attention_mask, image_index, visual, skips):
        stride = self.model.backbone_stride
        size = (visual.shape[2] * stride, visual.shape[3] * stride)
        chosen = tuple(skip[image_index] for skip in skips)
        embeddings = ImageEmbeddings(visual[image_index], chosen, size, self.model.is_optimized_for_inference)
        outputs = self.model(
            image_embeddings=embeddings, text_hidden_states=text_hidden_states, attention_mask=attention_mask
        )
        return outputs.logits if outputs.presence_logits is None else (outputs.logits, outputs.presence_logits)


@dataclass(frozen=True)
class _Graph:
    module: nn.Module
    inputs: tuple[Any, ...]
    dynamic: tuple[Any, ...]
    input_names: list[str]
    output_names: list[str]


@torch.no_grad()
def export_programs(model: Any, optimize: bool = True) -> dict[str, ExportedProgram]:
    """The model's three graphs by name, through `torch.export`.

    - `image_encoder`: `pixel_values` `[B, C, H, W]` -> V and the prepared skips.
    - `text_encoder`: `input_ids` and `attention_mask` `[N, L]` -> `text_hidden_states` `[N, L, W]`.
    - `mask_decoder`: `text_hidden_states`, `attention_mask`, `image_index` `[N]` (which image each note is asked of), V and
      the skips -> `logits` `[N, K, H, W]`, and `presence_logits` `[N]` of a model that judges presence.

    B, N, H and W stay open; H and W only where the backbone takes any size. L is the model's `max_text_length`.

    Args:
        model: a [`RecLMISModel`]; it stays as it is.
        optimize: of the model as [`RecLMISModel.optimize_for_inference`] makes it; equal up to rounding.

    Raises:
        ValueError: a model whose text encoder only looks notes up.
    """
    return {
        name: torch.export.export(graph.module, graph.inputs, dynamic_shapes=graph.dynamic)
        for name, graph in _graphs(_prepared(_in_float32(model), optimize)).items()
    }


@torch.no_grad()
def export_onnx(model: Any, processor: Any, folder: str | Path, optimize: bool = True) -> Path:
    """Writes the three graphs as ONNX, beside configuration and processor, for [`reclmis.exported.ExportedModel`].

    The graphs are run once in ONNX Runtime, at a size other than the one they were traced with where sizes are open, and
    their logits held against the model's. The folder appears whole or not at all.

    Args:
        model: a [`RecLMISModel`]; it stays as it is.
        processor: its processor.
        folder: of its own; an earlier export in it is replaced.
        optimize: see [`export_programs`].

    Returns:
        The folder.

    Raises:
        MissingPackageError: `pip install reclmis[onnx]` is due.
        ValueError: a model whose text encoder only looks notes up, or a folder that holds something else.
        RuntimeError: ONNX Runtime does not compute what the model does.
    """
    check_packages("onnx", "onnxscript", "onnxruntime")
    folder = Path(folder)
    check_target(folder)
    model = _in_float32(model)
    ready = _prepared(model, optimize)
    graphs = _graphs(ready)
    with new_folder(folder) as new:
        for name, graph in graphs.items():
            _write_onnx(graph, new / f"{name}.onnx")
        processor.save_pretrained(new)
        ready.config.save_pretrained(new)
        _manifest_of(ready, optimize, _resizes_antialiased(new / f"{IMAGE_ENCODER}.onnx")).write(new)
        _check_parity(model, new)
    return folder


def check_target(folder: Path) -> None:
    """Raises:
    ValueError: the folder is a file, or holds something that is no part of an export, which replacing it would lose.
    """
    if not folder.is_dir():
        if folder.exists() or folder.is_symlink():
            raise ValueError(f"{folder} is no folder; an export needs one of its own.")
        return
    present = sorted(folder.iterdir())
    foreign = [path for path in present if path.is_dir() or not any(path.match(pattern) for pattern in EXPORTED)]
    if present and not (folder / MANIFEST).is_file():
        foreign = present
    if foreign:
        raise ValueError(f"{folder} holds other files, such as {foreign[0].name}; an export needs a folder of its own.")


def _manifest_of(model: Any, optimized: bool, antialiased: bool) -> Manifest:
    return Manifest(
        stride=model.backbone_stride,
        image_size=_only_size(model),
        text_width=model.text_encoder.width,
        vocab_size=model.text_encoder.vocab_size,
        skips=len(model.visual_backbone.channels) - 1,
        presence=model.presence is not None,
        optimized=optimized,
        antialiased=antialiased,
        versions={name: version(name) for name in ("reclmis", "torch", "onnx")},
    )


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside this one, which takes its name when all went well."""
    folder = folder.resolve()  # a link stays one
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".exporting-") as temporary:
        new = Path(temporary) / "new"
        new.mkdir()
        yield new
        if folder.exists():
            folder.rename(Path(temporary) / "old")
        shutil.move(new, folder)


def check_packages(*names: str) -> None:
    from importlib.util import find_spec

    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise MissingPackageError(f"{', '.join(missing)} is not installed; `pip install reclmis[onnx]` brings it.")


def _in_float32(model: Any) -> Any:
    """The model, or a copy of one in half precision, in which the runtimes do not compute on a CPU."""
    if model.dtype == torch.float32:
        return model
    from .inference import without_training

    copied = without_training(model).float()
    copied.config.dtype = torch.float32
    return copied


def _prepared(model: Any, optimize: bool) -> Any:
    if hasattr(model.text_encoder, "knows"):
        raise ValueError(
            "This model's text encoder only looks up notes that were encoded in advance. Export the model that it was made "
            "from, and keep its notes' states: an exported model encodes each note once as well."
        )
    if model.is_optimized_for_inference:
        return model
    if optimize:
        return model.optimize_for_inference()
    from .inference import without_training

    return without_training(model).eval()


def _only_size(model: Any) -> list[int] | None:
    size = model.visual_backbone.input_size
    return None if size is None else list(size)


def _graphs(model: Any) -> dict[str, _Graph]:
    config, stride = model.config, model.backbone_stride
    fixed = _only_size(model)
    # A size that is open must be neither the model's own nor square, or the graph would hold for that one alone.
    height, width = fixed or (2 * stride, 3 * stride)
    if (
        fixed is None
        and model.interaction.patch_embedding is not None
        and model.interaction.patch_embedding.grid == (2, 3)
    ):
        height = 4 * stride
    options = {"device": model.device, "dtype": model.dtype}
    pixels = torch.zeros(2, config.num_channels, height, width, **options)
    ids = torch.zeros(3, config.max_text_length, dtype=torch.long, device=model.device)
    mask = torch.ones_like(ids)
    embeddings = model.get_image_embeddings(pixels)
    states = torch.zeros(*ids.shape, model.text_encoder.width, **options)
    index = torch.zeros(len(ids), dtype=torch.long, device=model.device)

    images, notes = Dim("images", min=1, max=4096), Dim("notes", min=1, max=4096)
    sides: dict[int, Any] = {}
    if fixed is None:
        sides = {2: stride * Dim("rows", min=1, max=1024), 3: stride * Dim("columns", min=1, max=1024)}
    # How the sizes of the maps hang together is worked out by the exporter.
    of_map = {place: Dim.AUTO for place in (0, *sides)}
    skips = [f"skip_{number}" for number in range(len(embeddings.skips))]
    some = {0: Dim.AUTO}
    return {
        IMAGE_ENCODER: _Graph(
            _ImageEncoder(model), (pixels,), ({0: images, **sides},), ["pixel_values"], ["visual", *skips]
        ),
        TEXT_ENCODER: _Graph(
            _TextEncoder(model), (ids, mask), ({0: notes}, {0: notes}), ["input_ids", "attention_mask"],
            ["text_hidden_states"],
        ),
        MASK_DECODER: _Graph(
            _MaskDecoder(model), (states, mask, index, embeddings.visual, embeddings.skips),
            (some, some, some, of_map, tuple(of_map for _ in skips)),
            ["text_hidden_states", "attention_mask", "image_index", "visual", *skips],
            ["logits", *["presence_logits"] * (model.presence is not None)],
        ),
    }  # fmt: skip


def _write_onnx(graph: _Graph, path: Path) -> None:
    weights = sum(tensor.nbytes for tensor in graph.module.state_dict().values())
    program = torch.export.export(graph.module, graph.inputs, dynamic_shapes=graph.dynamic)
    logs = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # The exporter's own remarks on its internals; what matters is checked on the result.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                program, graph.inputs, str(path), dynamo=True, verbose=False, opset_version=OPSET,
                input_names=graph.input_names, output_names=graph.output_names,
                external_data=weights > _LARGEST_GRAPH,
            )  # fmt: skip
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


def _resizes_antialiased(path: Path) -> bool:
    import onnx

    nodes = onnx.load(str(path), load_external_data=False).graph.node
    return any(
        attribute.name == "antialias" and attribute.i
        for node in nodes
        if node.op_type == "Resize"
        for attribute in node.attribute
    )


@torch.no_grad()
def _check_parity(model: Any, folder: Path) -> None:
    from .exported import ExportedModel

    config, stride = model.config, model.backbone_stride
    generator = torch.Generator().manual_seed(0)
    height, width = _only_size(model) or (3 * stride, 2 * stride)
    pixels = torch.randn(2, config.num_channels, height, width, generator=generator)
    ids = torch.randint(0, model.text_encoder.vocab_size, (2, config.max_text_length), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, config.max_text_length // 2 :] = 0  # a short note, padded
    exported = ExportedModel.from_pretrained(folder)
    was_training = model.training
    model.eval()
    inputs = {"pixel_values": pixels, "input_ids": ids, "attention_mask": mask}
    expected, found = model(**{key: value.to(model.device) for key, value in inputs.items()}), exported(**inputs)  # type: ignore[arg-type]
    if was_training:
        model.train()
    answers = {"logits": (expected.logits, found.logits), "presence": (expected.presence_logits, found.presence_logits)}
    for name, (own, answer) in answers.items():
        if own is None:
            continue
        own = own.cpu().float()
        error = float((answer - own).abs().max())  # type: ignore[operator]
        allowed = _TOLERANCE * max(1.0, float(own.abs().max()))
        if not error <= allowed:
            raise RuntimeError(
                f"The exported graphs answer differently: {name} are off by {error:.3g}, more than rounding ({allowed:.3g})."
            )


__all__ = ["GRAPHS", "Manifest", "export_onnx", "export_programs"]
