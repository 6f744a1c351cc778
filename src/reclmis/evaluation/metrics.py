"""Dice and IoU (paper eq. 12-13), sensitivity and precision, always in both families that the field's tables mix."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from ..distributed import is_distributed

# Pixels in both, in the prediction, in the mask; and that for each foreground class.
ClassCounts = tuple[int, int, int]
Counts = tuple[ClassCounts, ...]

EMPTY_POLICY = "Nothing predicted where nothing is: 1. Only one of the two empty: 0. No image is left out."


def dice_of(counts: ClassCounts) -> float:
    """Twice the pixels in both, by those of either (eq. 12)."""
    both, ours, truth = counts
    return 2 * both / (ours + truth) if ours + truth else 1.0


def iou_of(counts: ClassCounts) -> float:
    """Pixels in both, by those in either (eq. 13)."""
    both, ours, truth = counts
    union = ours + truth - both
    return both / union if union else 1.0


def sensitivity_of(counts: ClassCounts) -> float:
    """What was found of the mask. Nothing can be found of an empty mask, so that the policy above decides."""
    both, ours, truth = counts
    return both / truth if truth else float(not ours)


def precision_of(counts: ClassCounts) -> float:
    """What of the prediction is right. An empty prediction is right where the mask is empty, and scores 0 elsewhere."""
    both, ours, truth = counts
    return both / ours if ours else float(not truth)


SCORES: dict[str, Callable[[ClassCounts], float]] = {
    "dice": dice_of,
    "iou": iou_of,
    "sensitivity": sensitivity_of,
    "precision": precision_of,
}


class SegmentationMeter:
    """Collects integer counts per image; metrics are computed from them at the end.

    - `dice_per_image`, `iou_per_image`, `sensitivity_per_image`, `precision_per_image`: the mean over images (eq. 12-13).
      With K > 1, over foreground classes as well.
    - `dice_pooled`, `iou_pooled`, `sensitivity_pooled`, `precision_pooled`: one count over the whole set, per class, then
      averaged. IoU = Dice / (2 - Dice) here.

    An empty prediction of an empty mask scores 1 in all of them; an empty one of a mask, or a prediction where nothing is,
    scores 0, also where a quotient would be undefined (sensitivity of an empty mask, precision of an empty prediction): so
    every metric is a mean over the same images.

    Counts are integers and sums are exact, so batch size, order and number of processes change nothing.

    Args:
        num_labels: K. 1 is binary; with K > 1 class 0 is background and not scored.
    """

    def __init__(self, num_labels: int = 1) -> None:
        self.classes = foreground_classes(num_labels)
        # By id; images without one go by a running number, which is no string.
        self._counts: dict[str | int, Counts] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def update(self, prediction: Any, target: Any, ids: Sequence[str] | None = None) -> None:
        """Adds a batch.

        Args:
            prediction, target: class indices `[B, H, W]` (integer or boolean), or sequences of `[H, W]` that may differ
                in size.
            ids: one per image. An id that is there already is the same image again, as when processes share out a set
                unevenly, and is not counted twice. Without ids every image is a new one.

        Raises:
            ValueError: unequal numbers or sizes, values that are no class, or other counts for an image that is there
                already.
        """
        if len(prediction) != len(target) or (ids is not None and len(ids) != len(target)):
            named = "" if ids is None else f" and {len(ids)} ids"
            raise ValueError(f"{len(prediction)} predictions, but {len(target)} masks{named}.")
        for index, (ours, truth) in enumerate(zip(prediction, target, strict=True)):
            name = len(self) if ids is None else str(ids[index])
            counts = count_pixels(ours, truth, self.classes, f"Image {name!r}")
            if self._counts.setdefault(name, counts) != counts:
                raise ValueError(f"Image {name!r} was added before with another result; ids must be unique.")

    def merge(self, other: "SegmentationMeter") -> None:
        """Adds the images of another meter.

        Of an image that both have, this meter's result stays: the same image in another batch may differ from itself by
        a pixel whose logit is next to zero.

        Raises:
            ValueError: an id whose masks differ in size, which is not the same image.
        """
        for name, counts in other._counts.items():
            if isinstance(name, int):
                self._counts[len(self)] = counts
                continue
            known = self._counts.setdefault(name, counts)
            if [truth for _, _, truth in known] != [truth for _, _, truth in counts]:
                raise ValueError(f"Image {name!r} has another mask in the other meter; ids must be unique.")

    def gather(self) -> None:
        """Brings the images of all processes together, the same result in every one of them."""
        if not is_distributed():
            return
        everyone: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(everyone, self._counts)
        self._counts = {}
        for counts in everyone:
            part = SegmentationMeter()
            part._counts = counts
            self.merge(part)

    def compute(self) -> dict[str, float]:
        """Each metric in both families, and `images`, their number. With K > 1 also each metric of each foreground class,
        such as `dice_per_image_class2`.

        Raises:
            ValueError: no image was added.
        """
        return summarise(list(self._counts.values()), self.classes)

    def per_image(self) -> list[dict[str, Any]]:
        """One row per image, by id: its Dice and IoU, over its classes."""
        return [
            {"id": str(name), "dice": mean(map(dice_of, row)), "iou": mean(map(iou_of, row))}
            for name, row in sorted(self._counts.items(), key=lambda item: (isinstance(item[0], str), item[0]))
        ]


def foreground_classes(num_labels: int) -> tuple[int, ...]:
    """What is scored of a model of K labels."""
    return (1,) if num_labels == 1 else tuple(range(1, num_labels))


def count_pixels(prediction: Any, target: Any, classes: Sequence[int], what: str) -> Counts:
    """The counts of one image, from which every overlap metric follows.

    Args:
        prediction, target: class indices `[H, W]`, integer or boolean.
        classes: of the foreground.
        what: to name in errors.

    Raises:
        ValueError: unequal sizes, or values that are no class.
    """
    ours, truth = torch.as_tensor(prediction), torch.as_tensor(target)
    if ours.shape != truth.shape:
        raise ValueError(f"{what}: prediction {list(ours.shape)}, mask {list(truth.shape)}.")
    _check_classes(f"{what}, prediction", ours, classes)
    _check_classes(f"{what}, mask", truth, classes)
    return tuple(_count(ours == c, truth == c) for c in classes)


def summarise(rows: Sequence[Counts], classes: Sequence[int]) -> dict[str, float]:
    """See [`SegmentationMeter.compute`].

    Args:
        rows: of each image the counts of each class.
    """
    if not rows:
        raise ValueError("No image was added, so there is nothing to average.")
    columns = {c: [row[index] for row in rows] for index, c in enumerate(classes)}
    pooled = {c: _total(column) for c, column in columns.items()}
    metrics: dict[str, float] = {}
    for name, score in SCORES.items():
        metrics[f"{name}_per_image"] = mean(score(counts) for row in rows for counts in row)
        metrics[f"{name}_pooled"] = mean(map(score, pooled.values()))
        if len(classes) > 1:
            for c in classes:
                metrics[f"{name}_per_image_class{c}"] = mean(map(score, columns[c]))
                metrics[f"{name}_pooled_class{c}"] = score(pooled[c])
    return {**metrics, "images": len(rows)}


def mean(values: Iterable[float]) -> float:
    """Of an exact sum, so that no order of the values matters."""
    values = list(values)
    return math.fsum(values) / len(values)


def _check_classes(what: str, values: torch.Tensor, classes: Sequence[int]) -> None:
    """A 0/255 mask or a probability would otherwise count as no foreground at all."""
    if values.is_floating_point():
        raise ValueError(f"{what}: {values.dtype} values are no class indices; threshold or argmax them first.")
    least, most = (int(values.min()), int(values.max())) if values.numel() else (0, 0)
    if least < 0 or most > classes[-1]:
        raise ValueError(f"{what}: values from {least} to {most} are no classes 0 to {classes[-1]}.")


def _count(ours: torch.Tensor, truth: torch.Tensor) -> ClassCounts:
    return int((ours & truth).sum()), int(ours.sum()), int(truth.sum())


def _total(column: Sequence[ClassCounts]) -> ClassCounts:
    both, ours, truth = (sum(part) for part in zip(*column, strict=True))
    return both, ours, truth
