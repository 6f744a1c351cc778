"""Masks as files have them -> class indices. What could mean two things is refused."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..images import open_image

Colour = tuple[int, int, int]

# Formats that smear the edge between two values. Elsewhere a grey value between them is somebody's intent.
_LOSSY = ("JPEG", "MPO", "WEBP", "JPEG2000")
_SMEAR = 16
# What a file may write for foreground: the index, and white in 8 and 16 bits.
_FOREGROUND = (1, 255, 65535)


@dataclass(frozen=True)
class MaskFormat:
    """How the masks of a dataset are to be read.

    Attributes:
        num_labels: K; 1 is binary.
        colours: RGB of each class, where masks are painted: the colour at position `i` is class `i`. Binary masks have two.
        instances: every object has a number or a colour of its own, 0 or black is background; all objects are foreground.

    Raises:
        ValueError: settings that contradict each other.
    """

    num_labels: int = 1
    colours: tuple[Colour, ...] | None = None
    instances: bool = False

    def __post_init__(self) -> None:
        if self.num_labels < 1:
            raise ValueError(f"`num_labels` must be at least 1, got {self.num_labels}.")
        if self.instances and (self.colours or self.num_labels > 1):
            raise ValueError("Masks of instances are binary and have no colours of classes. Leave one setting out.")
        if self.colours is not None:
            object.__setattr__(self, "colours", _checked_colours(self.colours, max(self.num_labels, 2)))

    @property
    def is_plain(self) -> bool:
        """Whether files can be read without knowing more than `num_labels`."""
        return self.colours is None and not self.instances

    def read(self, mask: Any) -> np.ndarray:
        """[`read_mask`] with these settings."""
        if self.colours is not None:
            return _from_colours(_colours(_opened(mask)), self.colours)
        if self.instances:
            return _foreground(_opened(mask))
        return read_mask(mask, self.num_labels)


def read_mask(mask: Any, num_labels: int = 1) -> np.ndarray:
    """A mask as class indices, uint8 `[H, W]`. Painted classes and instances are read by [`MaskFormat`].

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
    mask = _opened(mask)
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
        "or set `num_labels` to the number of classes, or `instances` if every object has a number of its own."
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
            raise ValueError(
                "The mask is coloured. Give the `colours` of the classes, or `instances` if every object has a colour."
            )
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


def _opened(mask: Any) -> Any:
    return open_image(mask) if isinstance(mask, str | Path) else mask


def _foreground(mask: Any) -> np.ndarray:
    """Whatever is not background, of numbered or coloured objects."""
    if isinstance(mask, Image.Image) and mask.mode == "P":
        # Numbers of objects are indices, and index 0 is background whatever its colour.
        return (np.asarray(mask) > 0).astype(np.uint8)
    if isinstance(mask, Image.Image) and mask.mode in ("RGB", "RGBA", "LA"):
        mask = _colours(mask)
    plane = np.asarray(mask)
    if plane.ndim == 3:
        return np.asarray(plane.any(axis=2), dtype=np.uint8)
    return (_plane(mask) > 0).astype(np.uint8)


def _colours(mask: Any) -> np.ndarray:
    """uint8 `[H, W, 3]`."""
    if isinstance(mask, Image.Image):
        if mask.mode in ("LA", "RGBA", "PA") and np.asarray(mask.getchannel("A")).min() < 255:
            raise ValueError("The mask is partly transparent, which could mean background or not. Store it opaque.")
        if mask.mode not in ("1", "L", "P", "RGB", "RGBA", "LA", "PA", "CMYK"):
            raise ValueError(f"A mask of mode {mask.mode} has no colours. Leave `colours` out.")
        mask = mask.convert("RGB")
    pixels = np.asarray(mask)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"A painted mask must be uint8 [H, W, 3], got {pixels.dtype} {pixels.shape}.")
    return pixels


def _packed(colours: np.ndarray) -> np.ndarray:
    """RGB triples as one number each."""
    return colours.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.int32)


def _from_colours(pixels: np.ndarray, colours: Sequence[Colour]) -> np.ndarray:
    """Class indices of painted pixels; a colour that is no class is refused, as antialiasing and JPEG leave such."""
    values, inverse = np.unique(_packed(pixels), return_inverse=True)
    classes = {int(value): index for index, value in enumerate(_packed(np.array(colours)))}
    unknown = [value for value in values.tolist() if value not in classes]
    if unknown:
        listed = ", ".join(str((v >> 16, v >> 8 & 255, v & 255)) for v in unknown[:4])
        raise ValueError(
            f"The mask has {len(unknown)} colour(s) that are no class, such as {listed}; classes are "
            f"{', '.join(map(str, colours))}. Add them to `colours`, or save the mask without smoothing."
        )
    lookup = np.array([classes[value] for value in values.tolist()], dtype=np.uint8)
    return lookup[inverse].reshape(pixels.shape[:2])


def _checked_colours(colours: Sequence[Sequence[int]], expected: int) -> tuple[Colour, ...]:
    checked = tuple((int(r), int(g), int(b)) for r, g, b in colours)
    if len(checked) != expected or len(set(checked)) != expected or expected > 256:
        raise ValueError(f"`colours` must be {expected} different colours, one per class, got {list(checked)}.")
    if any(not 0 <= channel <= 255 for colour in checked for channel in colour):
        raise ValueError(f"`colours` must lie in 0 to 255, got {list(checked)}.")
    return checked


def _present(values: np.ndarray) -> np.ndarray:
    """The sorted distinct values; counting bytes is far faster than sorting them."""
    return np.flatnonzero(np.bincount(values.ravel())) if values.dtype == np.uint8 else np.unique(values)


def _listed(values: np.ndarray) -> str:
    shown = ", ".join(f"{value:g}" for value in values[:6])
    return shown + (f", ... ({len(values)} in all)" if len(values) > 6 else "")
