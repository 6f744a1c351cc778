"""Masks as files have them -> class indices."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def read_mask(mask: Any, num_labels: int = 1) -> np.ndarray:
    """A mask as uint8 class indices `[H, W]`.

    Args:
        mask: path, PIL image or array. Binary masks hold 0 and 1, 0 and 255, or any one value beside 0; masks of
            K > 1 classes hold their indices, as grey values or as a palette's.
        num_labels: K; 1 gives 0 and 1.

    Raises:
        ValueError: values that do not tell the class; the message lists them.
    """
    if isinstance(mask, str | Path):
        with Image.open(mask) as image:
            return read_mask(image, num_labels)
    values = _plane(mask)
    present = np.unique(values)
    if num_labels > 1:
        if present[-1] >= num_labels:
            raise ValueError(
                f"The mask holds values {_listed(present)}, but classes go from 0 to {num_labels - 1}. Store class indices."
            )
        return values.astype(np.uint8)
    foreground = present[present > 0]
    if len(foreground) > 1:
        # Lossy files smear 0 and 255; anything else cannot be told from several classes.
        near = (values <= 16) | (values >= 239)
        if values.max() > 255 or not near.all():
            raise ValueError(
                f"The mask holds values {_listed(present)}, but a binary one has two. Store 0 and 255, or set `num_labels`."
            )
        return (values >= 239).astype(np.uint8)
    return (values > 0).astype(np.uint8)


def _plane(mask: Any) -> np.ndarray:
    if isinstance(mask, Image.Image):
        if mask.mode in ("RGBA", "LA", "CMYK"):
            mask = mask.convert("RGB" if mask.mode != "LA" else "L")
        mask = np.asarray(mask)
    mask = np.asarray(mask)
    if mask.dtype == bool:
        mask = mask.astype(np.uint8)
    if mask.ndim == 3 and mask.shape[2] in (3, 4):
        if not (mask[..., :1] == mask[..., :3]).all():
            raise ValueError("The mask is coloured; store class indices in one channel, or as a palette image.")
        mask = mask[..., 0]
    if mask.ndim != 2:
        raise ValueError(f"A mask must be [H, W], got shape {mask.shape}.")
    if mask.dtype.kind == "f" and not (mask == np.rint(mask)).all():
        raise ValueError("The mask holds fractions; store class indices.")
    if mask.size == 0 or mask.min() < 0:
        raise ValueError("The mask is empty or holds negative values; store class indices.")
    return mask.astype(np.int64) if mask.dtype != np.uint8 else mask


def _listed(values: np.ndarray) -> str:
    shown = ", ".join(f"{value:g}" for value in values[:6])
    return shown + (f", ... ({len(values)} in all)" if len(values) > 6 else "")
