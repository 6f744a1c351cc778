"""Masks as files have them -> class indices. What could mean two things is refused."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..images import open_image

# Formats that smear the edge between two values. Elsewhere a grey value between them is somebody's intent.
_LOSSY = ("JPEG", "MPO", "WEBP", "JPEG2000")
_SMEAR = 16
# What a file may write for foreground: the index, and white in 8 and 16 bits.
_FOREGROUND = (1, 255, 65535)


def read_mask(mask: Any, num_labels: int = 1) -> np.ndarray:
    """A mask as class indices, uint8 `[H, W]`.

    Args:
        mask: path, PIL image (modes 1, L, P, RGB, I, I;16, F and those with an opaque alpha), or array `[H, W]` or
            `[H, W, 3]`. Colour images must be grey. Palette images hold their palette's greys, or, when it has
            colours, indices with black as index 0.
        num_labels: K. 1: background is 0, foreground 1, 255 or 65535, and JPEG or WebP files may be off by 16.
            K > 1: class indices.

    Raises:
        ValueError: values that do not tell the class; the message lists them.
        reclmis.images.UnreadableImageError: a file that cannot be decoded; the message names the path.
    """
    if num_labels < 1:
        raise ValueError(f"`num_labels` must be at least 1, got {num_labels}.")
    if isinstance(mask, str | Path):
        path, mask = mask, open_image(mask)
        with Image.open(path) as header:
            format = header.format
    else:
        format = getattr(mask, "format", None)
    values = _plane(mask)
    present = _present(values)
    if num_labels > 1:
        return _class_indices(values, present, num_labels)
    foreground = present[present > 0]
    if not len(foreground) or (len(foreground) == 1 and foreground[0] in _FOREGROUND):
        return (values > 0).astype(np.uint8)
    if format in _LOSSY and ((present <= _SMEAR) | ((present >= 255 - _SMEAR) & (present <= 255))).all():
        return (values >= 255 - _SMEAR).astype(np.uint8)
    raise ValueError(
        f"The mask holds values {_listed(present)}, but a binary mask has 0 and 255, or 0 and 1. Store it so, "
        "or set `num_labels` to the number of classes."
    )


def _class_indices(values: np.ndarray, present: np.ndarray, num_labels: int) -> np.ndarray:
    if present[-1] >= num_labels:
        raise ValueError(
            f"The mask holds values {_listed(present)}, but classes go from 0 to {num_labels - 1}. Store class "
            "indices, or set `num_labels`."
        )
    return values.astype(np.uint8 if num_labels <= 256 else np.int64)


def _plane(mask: Any) -> np.ndarray:
    """Whole, non-negative values `[H, W]`."""
    plane = _pixels(mask) if isinstance(mask, Image.Image) else np.asarray(mask)
    if plane.ndim == 3 and plane.shape[2] == 3:
        if not (plane == plane[..., :1]).all():
            raise ValueError("The mask is coloured. Store class indices in one channel, or as a palette image.")
        plane = plane[..., 0]
    if plane.ndim != 2 or not plane.size:
        raise ValueError(f"A mask must be [H, W] with some pixels, got shape {plane.shape}. Store one channel.")
    if plane.dtype == np.uint8:
        return plane
    if plane.dtype.kind not in "buif":
        raise ValueError(f"A mask of type {plane.dtype} means nothing here. Store integers.")
    # Also true for nan, which no comparison finds.
    if plane.dtype.kind == "f" and not (plane == np.rint(plane)).all():
        raise ValueError("The mask holds fractions or nan. Store class indices.")
    if plane.min() < 0:
        raise ValueError(f"The mask holds {plane.min():g}; class indices start at 0. Mark unlabelled pixels as 0.")
    return plane.astype(np.uint8 if plane.max() <= 255 else np.int64)


def _pixels(mask: Image.Image) -> np.ndarray:
    if mask.mode == "P":
        return _palette_values(mask)
    if mask.mode in ("LA", "RGBA"):
        alpha = np.asarray(mask.getchannel("A"))
        if alpha.min() < 255:
            raise ValueError("The mask is partly transparent, which could mean background or not. Store it opaque.")
        return np.asarray(mask.convert(mask.mode[:-1]))
    if mask.mode not in ("1", "L", "I", "F", "RGB") and not mask.mode.startswith("I;16"):
        raise ValueError(f"A mask of mode {mask.mode} does not tell classes. Store it as 8-bit grey.")
    return np.asarray(mask)


def _palette_values(mask: Image.Image) -> np.ndarray:
    indices = np.asarray(mask)
    if "transparency" in mask.info:
        raise ValueError("The palette of the mask is partly transparent. Store class indices as 8-bit grey.")
    palette = np.asarray(mask.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    used = np.flatnonzero(np.bincount(indices.ravel(), minlength=len(palette)))
    if used[-1] >= len(palette):
        raise ValueError(f"The mask uses colour {used[-1]} of a palette of {len(palette)}. Save it again.")
    if (palette[used] == palette[used, :1]).all():
        # Black and white as two colours in either order: the colours are what a person drew.
        return palette[:, 0][indices]
    if palette[0].any():
        raise ValueError(
            f"Index 0 of the mask's palette is the colour {tuple(int(c) for c in palette[0])}, so background is not "
            "plain. Store class indices as 8-bit grey."
        )
    return indices


def _present(values: np.ndarray) -> np.ndarray:
    """The sorted distinct values; counting bytes is far faster than sorting them."""
    return np.flatnonzero(np.bincount(values.ravel())) if values.dtype == np.uint8 else np.unique(values)


def _listed(values: np.ndarray) -> str:
    shown = ", ".join(f"{value:g}" for value in values[:6])
    return shown + (f", ... ({len(values)} in all)" if len(values) > 6 else "")
