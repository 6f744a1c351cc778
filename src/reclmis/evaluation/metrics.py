"""Dice and IoU (paper eq. 12-13), always in both families that the field's tables mix."""

import math
from collections.abc import Sequence
from typing import Any

import torch


class SegmentationMeter:
    """Collects integer counts per image; metrics are computed from them at the end.

    - `dice_per_image`, `iou_per_image`: the mean over images (eq. 12-13). With K > 1, over foreground classes as well.
    - `dice_pooled`, `iou_pooled`: one count over the whole set (per class, then averaged). Then IoU = Dice / (2 - Dice).

    An empty prediction of an empty mask scores 1; an empty one of a mask, or a prediction where nothing is, scores 0.
    Counts are integers and sums are exact, so batch size, order and number of processes change nothing.

    Args:
        num_labels: K. 1 is binary; with K > 1 class 0 is background and not scored.
    """

    def __init__(self, num_labels: int = 1) -> None:
        self.classes = (1,) if num_labels == 1 else tuple(range(1, num_labels))
        self._counts: dict[str, tuple[tuple[int, int, int], ...]] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def update(self, prediction: Any, target: Any, ids: Sequence[str] | None = None) -> None:
        """Adds a batch.

        Args:
            prediction, target: class indices `[B, H, W]`, or sequences of `[H, W]` that may differ in size.
            ids: one per image, by default a running number. An id that is there already is the same image again, as when
                processes share out a set unevenly, and is not counted twice.

        Raises:
            ValueError: unequal numbers or sizes, or other counts for an image that is there already.
        """
        if len(prediction) != len(target):
            raise ValueError(f"{len(prediction)} predictions, but {len(target)} masks.")
        names = [str(len(self) + i) for i in range(len(prediction))] if ids is None else list(ids)
        for name, ours, truth in zip(names, prediction, target, strict=True):
            ours, truth = torch.as_tensor(ours), torch.as_tensor(truth)
            if ours.shape != truth.shape:
                raise ValueError(f"Image {name!r}: prediction {list(ours.shape)}, mask {list(truth.shape)}.")
            self._add(name, tuple(_count(ours == c, truth == c) for c in self.classes))

    def merge(self, other: "SegmentationMeter") -> None:
        """Adds the images of another meter."""
        for name, counts in other._counts.items():
            self._add(name, counts)

    def gather(self) -> None:
        """Brings the images of all processes together, in every one of them."""
        from ..distributed import is_distributed

        if not is_distributed():
            return
        everyone: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(everyone, self._counts)
        for counts in everyone:
            for name, values in counts.items():
                self._add(name, values)

    def compute(self) -> dict[str, float]:
        """The four metrics, and `images`, their number.

        Raises:
            ValueError: no image was added.
        """
        if not self._counts:
            raise ValueError("No image was added, so there is nothing to average.")
        rows = list(self._counts.values())
        pooled = [tuple(sum(row[c][k] for row in rows) for k in range(3)) for c in range(len(self.classes))]
        return {
            "dice_per_image": _mean(_dice(counts) for row in rows for counts in row),
            "iou_per_image": _mean(_iou(counts) for row in rows for counts in row),
            "dice_pooled": _mean(map(_dice, pooled)),
            "iou_pooled": _mean(map(_iou, pooled)),
            "images": len(rows),
        }

    def per_image(self) -> list[dict[str, Any]]:
        """One row per image, by id: its Dice and IoU, over its classes."""
        return [
            {"id": name, "dice": _mean(map(_dice, row)), "iou": _mean(map(_iou, row))}
            for name, row in sorted(self._counts.items())
        ]

    def _add(self, name: str, counts: tuple[tuple[int, int, int], ...]) -> None:
        if self._counts.setdefault(name, counts) != counts:
            raise ValueError(f"Image {name!r} was added before with another result; ids must be unique.")


def _count(ours: torch.Tensor, truth: torch.Tensor) -> tuple[int, int, int]:
    """Pixels in both, in the prediction, in the mask."""
    return int((ours & truth).sum()), int(ours.sum()), int(truth.sum())


def _dice(counts: tuple[int, int, int]) -> float:
    both, ours, truth = counts
    return 2 * both / (ours + truth) if ours + truth else 1.0


def _iou(counts: tuple[int, int, int]) -> float:
    both, ours, truth = counts
    union = ours + truth - both
    return both / union if union else 1.0


def _mean(values: Any) -> float:
    values = list(values)
    return math.fsum(values) / len(values)
