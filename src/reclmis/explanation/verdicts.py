"""Masks in figures, alone or held against the truth."""

from typing import Any

import numpy as np
from PIL import Image

from ..visualization import agreement, overlay
from .drawing import GREY
from .layout import WIDTH

# As `reclmis.visualization.agreement` colours them.
_VERDICTS = (("found", (0, 158, 60)), ("missed", (213, 30, 30)), ("too much", (30, 80, 213)))


def marked(image: Image.Image, mask: np.ndarray, truth: np.ndarray | None) -> Image.Image:
    """The image with the mask, or with its verdicts."""
    return overlay(image, mask) if truth is None else agreement(image, mask, truth)


def dice(mask: np.ndarray, truth: np.ndarray) -> float:
    """Over any foreground."""
    from ..evaluation.metrics import SegmentationMeter

    meter = SegmentationMeter()
    meter.update([mask > 0], [truth > 0])
    return meter.compute()["dice_per_image"]


def draw_verdicts(figure: Any, left: float, top: float, remark: str = "") -> None:
    """What the colours mean, in a line that starts there (in inches)."""
    up = 1 - (top + 0.1) / figure.get_size_inches()[1]
    for name, colour in _VERDICTS:
        figure.text(left / WIDTH, up, f"■ {name}", fontsize=8.5, color=tuple(c / 255 for c in colour))
        left += 0.3 + 0.075 * len(name)
    figure.text(left / WIDTH, up, remark, fontsize=8.5, color=GREY)


def check_truth(truth: np.ndarray | None, image: Image.Image) -> None:
    """Raises ValueError for a truth of another size than the image's."""
    if truth is not None and np.shape(truth) != (image.height, image.width):
        raise ValueError(f"The image is {image.height} x {image.width}, but the truth's shape is {np.shape(truth)}.")


__all__ = ["check_truth", "dice", "draw_verdicts", "marked"]
