"""Many images and notes -> masks, with bounded memory."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from .images import read_image, to_rgb8


@dataclass
class Prediction:
    """The answer to one image and note.

    Attributes:
        index: running number of the request, from 0.
        source: the path, or the running number of an image that came without one.
        note: as asked.
        image: RGB image at its own size.
        mask: uint8 `[H, W]` class indices at the image's own size.
        probability: float32 `[H, W]` foreground probability, or `[K, H, W]`.
        presence: probability that the image shows what the note describes, `None` for models that do not judge it. Below
            0.5 the mask and its probability are empty.
    """

    index: int
    source: str
    note: str | None
    image: Image.Image
    mask: np.ndarray
    probability: np.ndarray
    presence: float | None = None


def predict(
    model: Any,
    processor: Any,
    requests: Iterable[tuple[Any, str | None]],
    *,
    batch_size: int = 8,
    threshold: float = 0.5,
    on_error: Callable[[str, ValueError], None] | None = None,
) -> Iterator[Prediction]:
    """Segments images as their notes say, in order; holds no more than one batch in memory.

    Args:
        model: a [`RecLMISModel`], on the device that shall do the work; it is put into evaluation mode.
        processor: its processor.
        requests: pairs of an image (path, PIL image, array or tensor) and its note; `None` asks a model with a null note
            for all that it finds.
        batch_size: images per forward pass.
        threshold: of the foreground probability, for binary models.
        on_error: called as `on_error(source, error)` for a request that cannot be answered, which is then left out;
            `None` raises.

    Raises:
        UnreadableImageError: an image that cannot be read.
        ValueError: an empty note, or one that a model with a table of notes does not have; pixel values without
            meaning; a batch size or threshold out of range.
    """
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
    if not 0 <= threshold <= 1:
        raise ValueError(f"`threshold` is a probability between 0 and 1, got {threshold}.")
    return _predictions(model.eval(), processor, enumerate(requests), batch_size, threshold, on_error)


def _predictions(model, processor, numbered, batch_size, threshold, on_error) -> Iterator[Prediction]:
    while batch := list(islice(numbered, batch_size)):
        ready = []
        for index, (image, note) in batch:
            source = str(image) if isinstance(image, str | Path) else str(index)
            try:
                _check_note(note, source, model, processor)
                ready.append((index, source, note, _opened(image, source)))
            except ValueError as error:
                if on_error is None:
                    raise
                on_error(source, error)
        if ready:
            yield from _predict_batch(model, processor, ready, threshold)


def _check_note(note: Any, source: str, model: Any, processor: Any) -> None:
    if note is None and model.config.note_dropout:
        return
    if not isinstance(note, str) or not note.strip():
        raise ValueError(f"The note for {source} is empty ({note!r}); say what to look for.")
    knows = getattr(model.text_encoder, "knows", None)
    if knows is not None and not knows(**processor.tokenize([note], "pt").to(model.device)).all():
        raise ValueError(f"The note for {source} ({note!r}) is {model.text_encoder.refusal}")


def _opened(image: Any, source: str) -> Image.Image:
    if isinstance(image, str | Path):
        return read_image(image)
    try:
        return to_rgb8(image)
    except ValueError as error:
        raise ValueError(f"Image {source}: {error}") from error


@torch.no_grad()
def _predict_batch(model, processor, ready, threshold: float) -> list[Prediction]:
    indices, sources, notes, images = zip(*ready, strict=True)
    inputs = processor(images=list(images), text=list(notes), return_tensors="pt").to(model.device)
    outputs = model(**inputs)
    probabilities = processor.post_process_semantic_segmentation(
        outputs,
        target_sizes=[(image.height, image.width) for image in images],
        return_probabilities=True,
    )
    masks = [p >= threshold if p.ndim == 2 else p.argmax(dim=0) for p in probabilities]
    judged = outputs.presence_logits
    presences = [None] * len(images) if judged is None else judged.sigmoid().tolist()
    return [
        Prediction(index, source, note, image, mask.to(torch.uint8).cpu().numpy(), probability.cpu().numpy(), presence)
        for index, source, note, image, mask, probability, presence in zip(
            indices, sources, notes, images, masks, probabilities, presences, strict=True
        )
    ]
