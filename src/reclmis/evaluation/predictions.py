"""A model's masks for a dataset, batch by batch, at the size of the truth."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from ..data.collate import decode_sample
from .metrics import SegmentationMeter


@torch.no_grad()
def predicted_masks(
    model: Any,
    processor: Any,
    dataset: Any,
    notes: Sequence[str],
    *,
    batch_size: int = 16,
    num_labels: int | None = None,
) -> Iterator[tuple[list[dict[str, Any]], list[torch.Tensor]]]:
    """For each batch its samples (decoded, at their own size) and the masks for `notes`, one note per row of the
    dataset."""
    if len(notes) != len(dataset):
        raise ValueError(f"{len(dataset)} samples, but {len(notes)} notes.")
    model.eval()
    num_labels = num_labels or model.config.num_labels
    for start in range(0, len(dataset), batch_size):
        rows = range(start, min(start + batch_size, len(dataset)))
        samples = [decode_sample(dataset[row], num_labels) for row in rows]
        inputs = processor(
            images=[sample["image"] for sample in samples],
            text=[notes[row] for row in rows],
            return_tensors="pt",
        ).to(model.device)
        outputs = model(**inputs)
        sizes = [sample["mask"].shape for sample in samples]
        yield samples, processor.post_process_semantic_segmentation(outputs, target_sizes=sizes)


def evaluate(model: Any, processor: Any, dataset: Any, notes: Sequence[str], **options: Any) -> dict[str, float]:
    """Metrics of [`SegmentationMeter`] with these notes, at the masks' own size."""
    meter = SegmentationMeter(model.config.num_labels)
    for samples, masks in predicted_masks(model, processor, dataset, notes, **options):
        meter.update(
            [mask.cpu() for mask in masks], [sample["mask"] for sample in samples], [sample["id"] for sample in samples]
        )
    return meter.compute()
