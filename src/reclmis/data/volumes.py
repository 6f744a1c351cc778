"""Volumes as samples: every slice an image of its own."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from PIL import Image

from ..medical.volume import Plane, View, Volume, read_label_volume, read_volume
from ..medical.windows import Window
from .masks import MaskFormat

Slices = Literal["all", "marked"]


@dataclass(frozen=True)
class VolumeFormat:
    """How volumes become slices; for `window`, `plane` and `view` see [`reclmis.medical.read_volume`].

    Attributes:
        slices: `"all"`, or `"marked"`: only those of which the mask marks something.
    """

    window: Window | None = None
    plane: Plane = "axial"
    view: View = "radiological"
    slices: Slices = "all"

    def __post_init__(self) -> None:
        if self.slices not in get_args(Slices):
            raise ValueError(f"`slices` is {self.slices!r}; choose one of {get_args(Slices)}.")


def slices_of(image: Path, mask: Path, volumes: VolumeFormat, mask_format: MaskFormat) -> list[int]:
    """Numbers of the slices that are samples. Every mask is read, so that what is wrong is known before training.

    Raises:
        UnreadableImageError, ValueError: see [`reclmis.medical.read_volume`] and [`MaskFormat.read`].
    """
    _, labels = _read(image, mask, volumes, _stamps(image, mask))
    marked = []
    for number, plane in enumerate(labels):
        try:
            if mask_format.read(plane).any() or volumes.slices == "all":
                marked.append(number)
        except ValueError as error:
            raise ValueError(f"{mask}, slice {number}: {error}") from error
    return marked


def read_slice(
    image: Path, mask: Path, number: int, volumes: VolumeFormat, mask_format: MaskFormat
) -> tuple[Image.Image, np.ndarray]:
    """A slice as 8-bit RGB, and its mask as class indices uint8 `[H, W]`."""
    volume, labels = _read(image, mask, volumes, _stamps(image, mask))
    return Image.fromarray(volume.slices[number]).convert("RGB"), mask_format.read(labels[number])


# Slices of one volume are read one after the other.
@lru_cache(maxsize=2)
def _read(image: Path, mask: Path, volumes: VolumeFormat, stamps: tuple[int, ...]) -> tuple[Volume, np.ndarray]:
    volume = read_volume(image, window=volumes.window, plane=volumes.plane, view=volumes.view)
    return volume, read_label_volume(mask, volume)


def _stamps(*paths: Path) -> tuple[int, ...]:
    """A file that changed is another volume."""
    return tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in paths)
