"""How far apart the outlines of two masks are, through MONAI."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import MissingPackageError
from .metrics import foreground_classes

# Hausdorff distance (95th percentile) and average symmetric surface distance of one class.
Distances = tuple[float, float]

SURFACE_POLICY = "Both empty: 0. Only one of the two empty: the image's diagonal. No image is left out."


def surface_distances(
    prediction: Any, target: Any, num_labels: int = 1, spacing: Sequence[float] | None = None
) -> tuple[Distances, ...]:
    """For each foreground class the 95 % Hausdorff distance and the average symmetric surface distance (ASSD).

    An outline is the pixels of a mask that have a neighbour (above, below, left, right) outside of it; outside the image
    nothing is inside. Hausdorff: of the distances from each pixel of one outline to the other outline the 95th percentile
    (linear between two ranks), and of the two directions the larger. ASSD: the mean over both outlines' pixels together.

    Two empty masks are 0 apart. Where only one is empty there is no distance; both numbers are the diagonal of the image
    then, the largest that could be, as the BraTS challenge has it: leaving such images out would reward a model for
    finding nothing.

    Args:
        prediction, target: class indices `[H, W]`.
        num_labels: K. 1 is binary; with K > 1 class 0 is background and left out.
        spacing: height and width of a pixel, such as in millimetres, which the distances then have; pixels without it.

    Raises:
        MissingPackageError: MONAI is not installed.
        ValueError: unequal sizes, or a spacing that is not two numbers above 0.
    """
    ours, truth = np.asarray(prediction), np.asarray(target)
    if ours.shape != truth.shape or ours.ndim != 2:
        raise ValueError(f"Surfaces need two masks [H, W] of one size, got {list(ours.shape)} and {list(truth.shape)}.")
    steps = checked_spacing(spacing)
    distance, average = _monai()
    rows: list[Distances] = []
    for c in foreground_classes(num_labels):
        first, second = ours == c, truth == c
        if not (first.any() and second.any()):
            apart = math.hypot(*(side * step for side, step in zip(ours.shape, steps, strict=True)))
            rows.append((apart, apart) if first.any() or second.any() else (0.0, 0.0))
            continue
        pair = first[None, None], second[None, None]
        options = {"include_background": True, "spacing": list(steps)}
        with warnings.catch_warnings():
            # MONAI warns of an argument of its own that it passes to itself.
            warnings.filterwarnings("ignore", message=".*always_return_as_numpy.*", category=FutureWarning)
            far, mean = distance(*pair, percentile=95, **options), average(*pair, symmetric=True, **options)
        rows.append((float(far), float(mean)))
    return tuple(rows)


def checked_spacing(spacing: Sequence[float] | None) -> tuple[float, float]:
    """Height and width of a pixel, 1 where nothing is said.

    Raises:
        ValueError: not two numbers above 0.
    """
    if spacing is None:
        return 1.0, 1.0
    steps = tuple(float(step) for step in spacing)
    if len(steps) != 2 or not all(math.isfinite(step) and step > 0 for step in steps):
        raise ValueError(f"`spacing` is the height and the width of a pixel, two numbers above 0, got {list(spacing)}.")
    return steps[0], steps[1]


def _monai() -> tuple[Any, Any]:
    try:
        from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
    except ImportError as error:
        raise MissingPackageError(
            "Surface distances are computed by MONAI, which is not installed; `pip install reclmis[evaluation]` brings it."
        ) from error
    return compute_hausdorff_distance, compute_average_surface_distance


__all__ = ["SURFACE_POLICY", "Distances", "checked_spacing", "surface_distances"]
