"""An exported model in ONNX Runtime or OpenVINO, which is asked as a [`RecLMISModel`] is."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from .configuration_reclmis import RecLMISConfig
from .errors import MissingPackageError, one_line
from .exporting import EXPORTED, GRAPHS, IMAGE_ENCODER, MANIFEST, MASK_DECODER, TEXT_ENCODER, Manifest
from .image_embeddings import ImageEmbeddings
from .modeling_reclmis import RecLMISOutput

Backend = Literal["onnxruntime", "openvino"]
BACKENDS: tuple[str, ...] = get_args(Backend)


@dataclass(frozen=True)
class _TextSide:
    """What others ask of a text encoder."""

    width: int
    vocab_size: int


class ExportedModel:
    """Graphs of [`reclmis.exporting.export_onnx`] in a runtime, on the CPU.

    ```python
    >>> model = ExportedModel.from_pretrained("exported", backend="onnxruntime")
    >>> outputs = model(**processor(images=image, text=note, return_tensors="pt"))
    ```

    It answers as the model does, through the same names: calls, `get_image_embeddings`, `encode_text`, and
    [`reclmis.prediction.predict`]. There are no losses and no inner features.
    """

    device = torch.device("cpu")
    dtype = torch.float32
    training = False

    def __init__(self, config: RecLMISConfig, manifest: Manifest, runners: dict[str, Any], backend: Backend) -> None:
        self.config = config
        self.manifest = manifest
        self.backend = backend
        self.text_encoder = _TextSide(manifest.text_width, manifest.vocab_size)
        self._runners = runners

    @property
    def prefers_pixels(self) -> bool:
        """Whether an image that is asked one note only is answered faster from its pixels than through its embeddings."""
        return self.backend == "openvino"

    @cached_property
    def _joined(self) -> "_OpenVino":
        """Image encoder and mask decoder as one graph: no map is handed over, and neither forces its layout on the other."""
        return _OpenVino.joined(self._runners[IMAGE_ENCODER], self._runners[MASK_DECODER])

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, backend: Backend = "onnxruntime", threads: int | None = None
    ) -> "ExportedModel":
        """Loads what `reclmis export` wrote.

        Args:
            folder: local, or the id of a Hub repository that holds such files.
            backend: `"onnxruntime"` or `"openvino"`.
            threads: of a call; `None` takes as many as PyTorch does.

        Raises:
            MissingPackageError: the runtime is not installed.
            FileNotFoundError: no export here, or one that lacks a graph.
            ValueError: an unknown backend, or files that cannot be read.
        """
        if backend not in BACKENDS:
            raise ValueError(f"`backend` must be one of {', '.join(BACKENDS)}, got {backend!r}.")
        if threads is not None and threads < 1:
            raise ValueError(f"`threads` must be at least 1, got {threads}.")
        path = Path(folder)
        if not path.is_dir() and str(folder).count("/") == 1:
            from huggingface_hub import snapshot_download

            path = Path(snapshot_download(str(folder), allow_patterns=list(EXPORTED)))
        manifest = Manifest.read(path)
        absent = [f"{name}.onnx" for name in GRAPHS if not (path / f"{name}.onnx").is_file()]
        if absent:
            raise FileNotFoundError(f"{path} lacks {', '.join(absent)}. Export the model again.")
        run: type = _OnnxRuntime if backend == "onnxruntime" else _OpenVino
        runners = {name: run(path / f"{name}.onnx", threads) for name in GRAPHS}
        return cls(RecLMISConfig.from_pretrained(path), manifest, runners, backend)

    def eval(self) -> "ExportedModel":
        """Itself: there is no other mode."""
        return self

    @property
    def backbone_stride(self) -> int:
        """Height and width of the image must be divisible by this."""
        return self.manifest.stride

    def get_image_embeddings(self, pixel_values: torch.Tensor) -> ImageEmbeddings:
        """See [`RecLMISModel.get_image_embeddings`]."""
        self.check_pixels(pixel_values)
        visual, *skips = _run(self._runners[IMAGE_ENCODER], pixel_values=pixel_values.float())
        height, width = pixel_values.shape[-2:]
        return ImageEmbeddings(visual, tuple(skips), (height, width), self.manifest.optimized)

    def check_pixels(self, pixel_values: torch.Tensor) -> None:
        """Raises:
        ValueError: pixel values that do not fit the graphs.
        """
        channels = self.config.num_channels
        if pixel_values.ndim != 4 or pixel_values.shape[1] != channels:
            raise ValueError(f"`pixel_values` must be [B, {channels}, H, W], got {list(pixel_values.shape)}.")
        height, width = pixel_values.shape[-2:]
        fixed, stride = self.manifest.image_size, self.manifest.stride
        if fixed is not None and [height, width] != fixed:
            raise ValueError(f"This export takes images of {fixed[0]} x {fixed[1]} pixels, got {height} x {width}.")
        if height % stride or width % stride:
            raise ValueError(f"The image has {height} x {width} pixels, but this export needs multiples of {stride}.")
        own = self.config.image_size
        if self.backend == "openvino" and self.manifest.antialiased and (height, width) != (own, own):
            raise ValueError(
                f"The image has {height} x {width} pixels, and at any size but {own} x {own} this backbone resizes its "
                "positions in a way that OpenVINO does not know. Let the processor resize the image, or use onnxruntime."
            )

    def encode_text(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """See [`RecLMISModel.encode_text`]."""
        length = self.config.max_text_length
        if input_ids.shape[1] != length:
            raise ValueError(f"This export reads notes of {length} tokens, padding included, got {input_ids.shape[1]}.")
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        _check_mask(mask, input_ids)
        known = self.text_encoder.vocab_size
        strange = input_ids[(input_ids < 0) | (input_ids >= known)]
        if len(strange):
            raise ValueError(
                f"This export knows the ids 0 to {known - 1}, got {int(strange[0])}. Tokenize with its own processor."
            )
        if self.config.note_dropout:
            # An encoder must not be asked to attend to nothing.
            mask = torch.where(mask.bool().any(dim=1, keepdim=True), mask, 1)
        return _run(self._runners[TEXT_ENCODER], input_ids=input_ids.long(), attention_mask=mask.long())[0]

    def __call__(
        self,
        pixel_values: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        text_hidden_states: torch.Tensor | None = None,
        image_embeddings: ImageEmbeddings | None = None,
    ) -> RecLMISOutput:
        """Mask logits, and presence where it is judged; arguments as [`RecLMISModel.forward`]'s of these names.

        Raises:
            ValueError: inputs that do not fit each other or the graphs.
        """
        if (pixel_values is None) == (image_embeddings is None):
            raise ValueError("Pass either `pixel_values`, or `image_embeddings` from `get_image_embeddings`.")
        if pixel_values is not None:
            self.check_pixels(pixel_values)
        count = len(pixel_values if pixel_values is not None else image_embeddings)  # type: ignore[arg-type]
        if text_hidden_states is None and input_ids is None and self.config.note_dropout:
            shape = (count, self.config.max_text_length)
            text_hidden_states = torch.zeros(*shape, self.text_encoder.width)
            attention_mask = torch.zeros(shape, dtype=torch.long)
        if text_hidden_states is None:
            if input_ids is None:
                raise ValueError("A note is missing: pass `input_ids`, or `text_hidden_states` from `encode_text`.")
            text_hidden_states = self.encode_text(input_ids, attention_mask)
        notes = len(text_hidden_states)
        if attention_mask is None:
            attention_mask = torch.ones(text_hidden_states.shape[:2], dtype=torch.long)
        _check_mask(attention_mask, text_hidden_states)
        if count != notes and (count != 1 or image_embeddings is None):
            raise ValueError(f"{count} images, but {notes} notes.")
        asked = {
            "text_hidden_states": text_hidden_states.float(), "attention_mask": attention_mask.long(),
            "image_index": torch.zeros(notes, dtype=torch.long) if count == 1 else torch.arange(notes),
        }  # fmt: skip
        if pixel_values is not None and self.prefers_pixels:
            answer = _run(self._joined, pixel_values=pixel_values.float(), **asked)
        else:
            images = image_embeddings if image_embeddings is not None else self.get_image_embeddings(pixel_values)  # type: ignore[arg-type]
            skips = {f"skip_{number}": skip for number, skip in enumerate(images.skips)}
            answer = _run(self._runners[MASK_DECODER], visual=images.visual, **asked, **skips)
        logits, *judged = answer
        return RecLMISOutput(logits=logits, presence_logits=judged[0] if judged else None)


def _run(runner: Any, **inputs: torch.Tensor) -> list[torch.Tensor]:
    arrays = {name: np.ascontiguousarray(tensor.detach().cpu().numpy()) for name, tensor in inputs.items()}
    return [torch.from_numpy(array) for array in runner(arrays)]


def _check_mask(mask: torch.Tensor, notes: torch.Tensor) -> None:
    if mask.shape != notes.shape[:2]:
        raise ValueError(f"`attention_mask` is {list(mask.shape)}, but the notes are {list(notes.shape[:2])}.")


class _OnnxRuntime:
    def __init__(self, path: Path, threads: int | None) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingPackageError(
                "ONNX Runtime is not installed; `pip install reclmis[onnx]` brings it."
            ) from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads or torch.get_num_threads()
        # Each graph has threads of its own, which would spin on the cores that the next graph needs: a mask of `small` took
        # more than twice as long.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ValueError(f"{path} cannot be read: {one_line(error)}. Export the model again.") from error

    def __call__(self, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        return self._session.run(None, arrays)


class _OpenVino:
    """A graph that is compiled when it is first asked: of the two ways to a mask a process mostly goes one."""

    def __init__(self, path: Path, threads: int | None, model: Any = None) -> None:
        try:
            import openvino
        except ImportError as error:
            raise MissingPackageError(
                "OpenVINO is not installed; `pip install reclmis[openvino]` brings it."
            ) from error
        self._core, self._path, self._threads = openvino.Core(), path, threads
        self._request: Any = None
        # Read at once, so that a damaged file is told, and kept until somebody needs it.
        self._model = self._read() if model is None else model

    @classmethod
    def joined(cls, encoder: "_OpenVino", decoder: "_OpenVino") -> "_OpenVino":
        """Both graphs as one, in which every note is asked of an image of its own."""
        return cls(decoder._path, decoder._threads, _join(encoder._take(), decoder._take()))

    def _read(self) -> Any:
        try:
            return self._core.read_model(str(self._path))
        except Exception as error:
            raise self._refusal(error) from error

    def _take(self) -> Any:
        model, self._model = self._model, None
        return self._read() if model is None else model

    def _refusal(self, error: Exception) -> ValueError:
        return ValueError(f"{self._path} cannot be read: {one_line(error)}. Export the model again.")

    def __call__(self, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        if self._request is None:
            # Elsewhere it may choose bfloat16 by itself, which moves the mask.
            settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32",
                        "INFERENCE_NUM_THREADS": self._threads or torch.get_num_threads()}  # fmt: skip
            try:
                self._request = self._core.compile_model(self._take(), "CPU", settings).create_infer_request()
            except Exception as error:
                raise self._refusal(error) from error
        outputs = self._request.infer(arrays, share_inputs=True, share_outputs=False)
        return [outputs[number] for number in range(len(outputs))]


def _join(encoder: Any, decoder: Any) -> Any:
    """The decoder of maps that this encoder computes, of one note per image."""
    from openvino import Model

    produced = {name: result.input_value(0) for result in encoder.get_results() for name in result.output(0).names}
    asked = []
    for parameter in decoder.get_parameters():
        source = produced.get(parameter.friendly_name)
        if source is None:
            asked.append(parameter)
            continue
        for reader in list(parameter.output(0).get_target_inputs()):
            node = reader.get_node()
            if reader.get_index() == 0 and _picks_images(node):
                # Each note its own image: nothing is picked, nothing copied.
                for behind in list(node.output(0).get_target_inputs()):
                    behind.replace_source_output(source)
            else:
                reader.replace_source_output(source)
    return Model(decoder.get_results(), [*encoder.get_parameters(), *asked], "image_and_note_to_mask")


def _picks_images(node: Any) -> bool:
    if node.get_type_name() not in ("Gather", "GatherND"):
        return False
    index = node.input_value(1).get_node()
    while index.get_type_name() in ("Unsqueeze", "Convert"):
        index = index.input_value(0).get_node()
    return index.get_type_name() == "Parameter" and index.friendly_name == "image_index"


__all__ = ["BACKENDS", "MANIFEST", "Backend", "ExportedModel"]
