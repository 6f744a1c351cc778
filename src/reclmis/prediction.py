"""Many images and notes -> masks, with bounded memory."""

from collections.abc import Iterable, Iterator
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
        source: the path, or the running number of an image that came without one.
        note: as asked.
        image: RGB image at its own size.
        mask: uint8 `[H, W]` class indices at the image's own size.
        probability: float32 `[H, W]` foreground probability, or `[K, H, W]`.
    """

    source: str
    note: str
    image: Image.Image
    mask: np.ndarray
    probability: np.ndarray


def predict(
    model: Any,
    processor: Any,
    requests: Iterable[tuple[Any, str]],
    *,
    batch_size: int = 8,
    threshold: float = 0.5,
    on_error: Any = None,
) -> Iterator[Prediction]:
    """Segments images as their notes say, in order; holds no more than one batch in memory.

    Args:
        model: a [`RecLMISModel`]; it is put into evaluation mode.
        processor: its processor.
        requests: pairs of an image (path, PIL image or array) and its note.
        batch_size: images per forward pass.
        threshold: of the foreground probability, for binary models.
        on_error: called as `on_error(source, error)` for an image that cannot be read, which is then left out; `None`
            raises.

    Raises:
        UnreadableImageError: an image that cannot be read.
        ValueError: an empty note, or pixel values without meaning.
    """
    model.eval()
    numbered = enumerate(requests)
    while batch := list(islice(numbered, batch_size)):
        ready = []
        for number, (image, note) in batch:
            source = str(image) if isinstance(image, str | Path) else str(number)
            try:
                if not note.strip():
                    raise ValueError(f"The note for {source} is empty; say what to look for.")
                ready.append((source, note, read_image(image) if isinstance(image, str | Path) else to_rgb8(image)))
            except ValueError as error:
                if on_error is None:
                    raise
                on_error(source, error)
        if ready:
            yield from _predict_batch(model, processor, ready, threshold)


@torch.no_grad()
def _predict_batch(model, processor, ready, threshold: float) -> Iterator[Prediction]:
    sources, notes, images = zip(*ready, strict=True)
    inputs = processor(images=list(images), text=list(notes), return_tensors="pt").to(model.device)
    outputs = model(**inputs)
    probabilities = processor.post_process_semantic_segmentation(
        outputs, target_sizes=[(image.height, image.width) for image in images], return_probabilities=True
    )
    for source, note, image, probability in zip(sources, notes, images, probabilities, strict=True):
        mask = probability >= threshold if probability.ndim == 2 else probability.argmax(dim=0)
        yield Prediction(source, note, image, mask.to(torch.uint8).cpu().numpy(), probability.cpu().numpy())
