"""A model's masks for many notes on the same images, each image encoded once."""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from ..data.collate import decode_sample
from ..processing_reclmis import NoteNotNormalisedWarning, NoteTooLongWarning

_ANY_LENGTH = 100_000


def answers_to_many(
    model: Any,
    processor: Any,
    dataset: Any,
    asked: Mapping[str, Mapping[int, str | None]],
    *,
    batch_size: int = 16,
) -> Iterator[tuple[int, dict[str, Any], dict[str, np.ndarray]]]:
    """Asks about every row under every note that there is for it. Holds one batch of images in memory.

    Notes that are cut are not warned of; [`notes_cut`] counts them.

    Args:
        model: a [`RecLMISModel`], which is put into evaluation mode.
        processor: its processor.
        dataset: of HF datasets, with `image`, `mask`, `note` and `id`.
        asked: by name, notes by row number; `None` is no note, for models with a null note.
        batch_size: images per forward pass.

    Yields:
        The row number, the decoded sample, and by name the mask, class indices `[H, W]` at the image's own size.
    """
    model.eval()
    # Padded to the largest of a batch, an image would be answered according to its company.
    step = batch_size if processor.image_processor.do_resize else 1
    for start in range(0, len(dataset), step):
        rows = list(range(start, min(start + step, len(dataset))))
        samples = [decode_sample(dataset[row], model.config.num_labels) for row in rows]
        found = _masks(model, processor, samples, rows, asked)
        yield from zip(rows, samples, found, strict=True)


@torch.no_grad()
def _masks(model, processor, samples, rows, asked) -> list[dict[str, np.ndarray]]:
    pixels = processor(images=[sample["image"] for sample in samples], return_tensors="pt")["pixel_values"]
    images = model.get_image_embeddings(pixels.to(model.device))
    found: list[dict[str, np.ndarray]] = [{} for _ in rows]
    for name, notes in asked.items():
        places = [place for place, row in enumerate(rows) if row in notes]
        if not places:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NoteTooLongWarning)
            warnings.simplefilter("ignore", NoteNotNormalisedWarning)
            words = processor(text=[notes[rows[place]] for place in places], return_tensors="pt")
        outputs = model(image_embeddings=images[places], **words.to(model.device))
        sizes = [samples[place]["mask"].shape for place in places]
        masks = processor.post_process_semantic_segmentation(outputs, target_sizes=sizes)
        for place, mask in zip(places, masks, strict=True):
            found[place][name] = mask.cpu().numpy()
    return found


def notes_cut(processor: Any, notes: Mapping[int, str | None]) -> int:
    """How many of the notes have more tokens than the processor hands to the model."""
    written = [note for note in notes.values() if note]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoteNotNormalisedWarning)
        whole = processor.tokenize(written, max_length=_ANY_LENGTH, trim=True)["attention_mask"]
    return sum(sum(mask) > processor.max_length for mask in whole)


__all__ = ["answers_to_many", "notes_cut"]
