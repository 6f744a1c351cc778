"""Text-safe augmentation. Plain functions act on a sample; a policy only decides which, by chance.

A sample is a dictionary with `image` (uint8 `[H, W, 3]`), `mask` (uint8 `[H, W]`), `note` and `id`. Functions return a
new one and leave theirs alone.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tvF

from .notes import mirror_note, note_survives

Sample = dict[str, Any]


def mirror(sample: Sample) -> Sample:
    """Left becomes right in image, mask and note. Its own inverse.

    Raises:
        ValueError: the note cannot be rewritten; ask [`note_survives`] first.
    """
    note = mirror_note(sample["note"])
    if note is None:
        raise ValueError(f"The note {sample['note']!r} cannot be mirrored; leave the image as it is.")
    return _with(sample, sample["image"][:, ::-1], sample["mask"][:, ::-1], note)


def flip_vertical(sample: Sample) -> Sample:
    """Upside down. Its own inverse.

    Raises:
        ValueError: the note names a height.
    """
    _require(sample, "flip_vertical")
    return _with(sample, sample["image"][::-1], sample["mask"][::-1])


def rotate90(sample: Sample, turns: int) -> Sample:
    """Counter-clockwise quarter turns.

    Raises:
        ValueError: the note names a place, and the turn is not a full one.
    """
    if turns % 4 == 2:
        _require(sample, "flip_vertical")
        note = mirror_note(sample["note"])
        if note is None:
            raise ValueError(f"The note {sample['note']!r} cannot be turned; leave the image as it is.")
        return _with(sample, np.rot90(sample["image"], 2), np.rot90(sample["mask"], 2), note)
    if turns % 4:
        _require(sample, "rotate90")
    return _with(sample, np.rot90(sample["image"], turns), np.rot90(sample["mask"], turns))


def shift(sample: Sample, *, degrees: float, scale: float, right: float, down: float) -> Sample:
    """A slight rotation, scaling and translation, under which zones stay what they are. Uncovered pixels are black.

    Args:
        degrees: counter-clockwise.
        scale: factor.
        right, down: share of the width and height.
    """
    height, width = sample["mask"].shape
    arguments = {
        "angle": -degrees,
        "translate": [right * width, down * height],
        "scale": scale,
        "shear": [0.0, 0.0],
    }
    image = tvF.affine(_chw(sample["image"]), interpolation=InterpolationMode.BILINEAR, **arguments)
    mask = tvF.affine(_as_tensor(sample["mask"])[None], interpolation=InterpolationMode.NEAREST, **arguments)
    return _with(sample, image.permute(1, 2, 0).numpy(), mask[0].numpy())


def photometric(
    sample: Sample, *, brightness=1.0, contrast=1.0, saturation=1.0, hue=0.0, blur_sigma=0.0
) -> Sample:
    """Brightness, contrast, saturation (factors), hue (turns of the colour circle) and blur (pixels), image alone.

    Grey images have no saturation and no hue to change.
    """
    image = _chw(sample["image"])
    grey = bool((image[0] == image[1]).all() and (image[1] == image[2]).all())
    if grey:
        image = image[:1]
    if brightness != 1:
        image = tvF.adjust_brightness(image, brightness)
    if contrast != 1:
        image = tvF.adjust_contrast(image, contrast)
    if saturation != 1 and not grey:
        image = tvF.adjust_saturation(image, saturation)
    if hue and not grey:
        image = tvF.adjust_hue(image, hue)
    if blur_sigma > 0:
        kernel = 2 * int(np.ceil(2 * blur_sigma)) + 1
        image = tvF.gaussian_blur(image, [kernel, kernel], [blur_sigma, blur_sigma])
    return _with(sample, image.expand(3, -1, -1).permute(1, 2, 0).numpy(), sample["mask"])


@dataclass(frozen=True)
class Augmentation:
    """Which changes are drawn, and how strong. Probabilities per sample, ranges as half-widths around no change.

    What happens is a function of (seed, epoch, sample id) alone: neither the number of workers nor an interrupted run
    changes a draw. A geometric change that the note would not survive is left out for that sample.
    """

    mirror: float = 0.0
    flip_vertical: float = 0.0
    rotate90: float = 0.0
    shift: float = 0.0
    degrees: float = 10.0
    scale: float = 0.1
    translate: float = 0.05
    photometric: float = 0.0
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.05
    blur: float = 0.0
    blur_sigma: float = 1.5

    @classmethod
    def none(cls) -> "Augmentation":
        return cls()

    @classmethod
    def paper(cls) -> "Augmentation":
        """Blur, contrast, saturation and hue (paper 4.2), and the mirror where the note can follow it."""
        return cls(mirror=0.5, photometric=0.5, blur=0.25)

    @classmethod
    def strong(cls) -> "Augmentation":
        """`paper`, with flips, quarter turns and slight shifts where the note allows."""
        return cls(mirror=0.5, flip_vertical=0.5, rotate90=0.5, shift=0.5, photometric=0.5, blur=0.1)

    def __call__(self, sample: Sample, *, seed: int, epoch: int) -> Sample:
        draw = _generator(seed, epoch, sample["id"])
        # Every number is drawn for every sample, so that one decision never shifts the next.
        chances, symmetric = draw.random(6), draw.uniform(-1, 1, 8)
        turns, sigma = int(draw.integers(1, 4)), float(draw.uniform(0.1, 1.0))
        note = sample["note"]
        if chances[0] < self.mirror and note_survives(note, "mirror"):
            sample = mirror(sample)
        if chances[1] < self.flip_vertical and note_survives(note, "flip_vertical"):
            sample = flip_vertical(sample)
        if chances[2] < self.rotate90 and note_survives(note, "rotate90"):
            sample = rotate90(sample, turns)
        if chances[3] < self.shift:
            sample = shift(
                sample,
                degrees=self.degrees * symmetric[0],
                scale=1 + self.scale * symmetric[1],
                right=self.translate * symmetric[2],
                down=self.translate * symmetric[3],
            )
        colours = chances[4] < self.photometric
        blurred = chances[5] < self.blur
        if colours or blurred:
            sample = photometric(
                sample,
                brightness=1 + self.brightness * symmetric[4] * colours,
                contrast=1 + self.contrast * symmetric[5] * colours,
                saturation=1 + self.saturation * symmetric[6] * colours,
                hue=self.hue * symmetric[7] * colours,
                blur_sigma=self.blur_sigma * sigma * blurred,
            )
        return sample


def _generator(seed: int, epoch: int, sample_id: str) -> np.random.Generator:
    # Not hash(): its value changes from process to process.
    digest = hashlib.sha256(f"{seed}:{epoch}:{sample_id}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def _require(sample: Sample, operation: str) -> None:
    if not note_survives(sample["note"], operation):
        raise ValueError(f"The note {sample['note']!r} does not survive {operation}; leave the image as it is.")


def _with(sample: Sample, image: np.ndarray, mask: np.ndarray, note: str | None = None) -> Sample:
    changed = {**sample, "image": np.ascontiguousarray(image), "mask": np.ascontiguousarray(mask)}
    return changed if note is None else {**changed, "note": note}


def _as_tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def _chw(image: np.ndarray) -> torch.Tensor:
    return _as_tensor(image).permute(2, 0, 1)
