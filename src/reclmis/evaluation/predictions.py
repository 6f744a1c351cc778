"""A model's masks for a dataset, batch by batch, at the size of the truth or at the model's."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from ..data.collate import decode_sample
from ..prediction import predict
from ..tiling import check_tiling
from .metrics import SegmentationMeter

ScoredAt = Literal["native", "model"]


@dataclass(frozen=True)
class Answer:
    """A model's answer to one sample.

    Attributes:
        sample: the decoded row, image and mask at their own size (see [`reclmis.data.collate.decode_sample`]).
        note: as asked.
        masks: by size, int64 `[H, W]` class indices on the CPU.
        truths: by size, the sample's mask likewise.
        presence: probability that the image shows what the note describes, `None` for models that do not judge it.
    """

    sample: dict[str, Any]
    note: str | None
    masks: dict[ScoredAt, torch.Tensor]
    truths: dict[ScoredAt, torch.Tensor]
    presence: float | None


def answers(
    model: Any,
    processor: Any,
    dataset: Any,
    notes: Sequence[str | None],
    *,
    batch_size: int = 16,
    num_labels: int | None = None,
    scored_at: Sequence[ScoredAt] = ("native",),
    tile: int | None = None,
    overlap: float = 0.25,
) -> Iterator[list[Answer]]:
    """Asks a model about every row, and holds one batch in memory.

    Args:
        model: a [`RecLMISModel`], which is put into evaluation mode, or an exported one.
        processor: its processor.
        dataset: of HF datasets, with `image`, `mask`, `note` and `id`.
        notes: one per row; `None` is no note, for models with a null note.
        num_labels: classes of the masks, the model's by default.
        scored_at: sizes of the masks. `"native"` is the image's own: logits are resized to it (bilinear). `"model"` is the
            size that the processor resizes to: logits stay as they are, and the truth is resized as in training (nearest
            neighbour). Where the processor leaves images at their size, both are the same.
        tile, overlap: ask by tiles, as [`reclmis.prediction.predict`] does; `"native"` only.

    Raises:
        ValueError: unequal numbers of rows and notes, an unknown size, a batch size below 1, tiles that are none or another
            size than `"native"` with them, or a sample that cannot be read.
        TypeError: no note, for a model without a null note.
    """
    if len(notes) != len(dataset):
        raise ValueError(f"{len(dataset)} samples, but {len(notes)} notes.")
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
    unknown = [size for size in scored_at if size not in get_args(ScoredAt)]
    if unknown or not scored_at:
        raise ValueError(f"`scored_at` must be 'native' or 'model', got {unknown[0] if unknown else scored_at!r}.")
    check_tiling(tile, overlap)
    if tile is None:
        return _answers(model.eval(), processor, dataset, notes, batch_size, num_labels, scored_at)
    if tuple(scored_at) != ("native",):
        raise ValueError("Tiles have no other size than the image's own: leave `tile` out, or score at 'native' size.")
    asked = {"batch_size": batch_size, "tile": tile, "overlap": overlap}
    return _answers_by_tiles(model, processor, dataset, notes, num_labels or model.config.num_labels, asked)


def _answers_by_tiles(model, processor, dataset, notes, num_labels, asked) -> Iterator[list[Answer]]:
    waiting: deque[dict[str, Any]] = deque()

    def requests():
        for row, note in zip(dataset, notes, strict=True):
            waiting.append(decode_sample(row, num_labels))
            yield waiting[-1]["image"], note

    for found in predict(model, processor, requests(), **asked):
        sample = waiting.popleft()
        mask, truth = torch.as_tensor(found.mask).long(), torch.as_tensor(sample["mask"]).long()
        yield [Answer(sample, found.note, {"native": mask}, {"native": truth}, found.presence)]


@torch.no_grad()
def _answers(model, processor, dataset, notes, batch_size, num_labels, scored_at) -> Iterator[list[Answer]]:
    num_labels = num_labels or model.config.num_labels
    for start in range(0, len(dataset), batch_size):
        rows = range(start, min(start + batch_size, len(dataset)))
        samples = [decode_sample(dataset[row], num_labels) for row in rows]
        batch: dict[int, Answer] = {}
        for places in _alike(processor, samples):
            group = _ask(model, processor, [samples[i] for i in places], [notes[rows[i]] for i in places], scored_at)
            batch |= zip(places, group, strict=True)
        yield [batch[place] for place in range(len(samples))]


def _ask(model, processor, samples, notes, scored_at: Sequence[ScoredAt]) -> list[Answer]:
    masks = [torch.as_tensor(sample["mask"]).long() for sample in samples]
    # The processor brings masks to the model's size as in training.
    also = {"segmentation_maps": masks} if "model" in scored_at else {}
    inputs = processor(images=[sample["image"] for sample in samples], text=notes, return_tensors="pt", **also)
    labels = inputs.pop("labels", None)
    outputs = model(**inputs.to(model.device))
    native = [(mask.shape[0], mask.shape[1]) for mask in masks]
    sizes: dict[ScoredAt, list] = {"native": native, "model": [model_size(processor, size) for size in native]}
    found = {
        name: [mask.cpu() for mask in processor.post_process_semantic_segmentation(outputs, target_sizes=sizes[name])]
        for name in scored_at
    }
    judged = getattr(outputs, "presence_logits", None)
    presences = [None] * len(samples) if judged is None else judged.float().sigmoid().flatten().tolist()
    answers = []
    for place, (sample, note, presence) in enumerate(zip(samples, notes, presences, strict=True)):
        truths: dict[ScoredAt, torch.Tensor] = {"native": masks[place]}
        if labels is not None:
            height, width = sizes["model"][place]
            truths["model"] = labels[place, :height, :width].cpu()
        answers.append(Answer(sample, note, {name: found[name][place] for name in scored_at},
                              {name: truths[name] for name in scored_at}, presence))  # fmt: skip
    return answers


def model_size(processor: Any, native: tuple[int, int]) -> tuple[int, int]:
    """Height and width that an image of this size has for the model, its padding left out."""
    images = processor.image_processor
    return (int(images.size["height"]), int(images.size["width"])) if images.do_resize else native


def _alike(processor: Any, samples: Sequence[dict[str, Any]]) -> list[list[int]]:
    """Places of samples that may be one batch: padded to the largest, an image would be answered according to its
    company."""
    groups: dict[Any, list[int]] = {}
    for place, sample in enumerate(samples):
        key = None if processor.image_processor.do_resize else sample["mask"].shape
        groups.setdefault(key, []).append(place)
    return list(groups.values())


def predicted_masks(
    model: Any,
    processor: Any,
    dataset: Any,
    notes: Sequence[str | None],
    *,
    batch_size: int = 16,
    num_labels: int | None = None,
) -> Iterator[tuple[list[dict[str, Any]], list[torch.Tensor]]]:
    """For each batch its samples (decoded, at their own size) and the masks for `notes`, one note per row of the
    dataset. Arguments and errors as of [`answers`]."""
    for batch in answers(model, processor, dataset, notes, batch_size=batch_size, num_labels=num_labels):
        yield [answer.sample for answer in batch], [answer.masks["native"] for answer in batch]


def evaluate(model: Any, processor: Any, dataset: Any, notes: Sequence[str | None], **options: Any) -> dict[str, float]:
    """Metrics of [`SegmentationMeter`] with these notes, at the masks' own size."""
    meter = SegmentationMeter(model.config.num_labels)
    for samples, masks in predicted_masks(model, processor, dataset, notes, **options):
        meter.update(masks, [sample["mask"] for sample in samples], [sample["id"] for sample in samples])
    return meter.compute()


__all__ = ["Answer", "ScoredAt", "answers", "evaluate", "model_size", "predicted_masks"]
