"""Text-safe augmentation. Plain functions act on a sample; a policy only decides which, by chance.

A sample is a dictionary with `image` (uint8 `[H, W, 3]`), `mask` (uint8 `[H, W]`), `note` and `id`. Functions return a
new one and leave theirs alone.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, cos, pi, sin
from typing import Any, get_args

import numpy as np
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tvF

from ..notes import Orientation, fits, mirror_note, note_survives, parse_note

Sample = dict[str, Any]

# A sample may hold another question about the same image; what is done to the image holds for it as well.
_QUESTIONS = (("mask", "note"), ("distractor_mask", "distractor_note"))
_MASKS, _NOTES = zip(*_QUESTIONS, strict=True)

# Luma and chroma of NTSC (FCC 1953), luma as in Rec. 601.
_RGB_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


def survives(sample: Sample, operation: str) -> bool:
    """Whether [`note_survives`] holds for all notes of a sample."""
    return all(note_survives(sample[key], operation) for key in _NOTES if key in sample)


def mirror(sample: Sample) -> Sample:
    """Left becomes right in image, mask and note. Its own inverse.

    Raises:
        ValueError: the note cannot be rewritten; ask [`note_survives`] first.
    """
    _require(sample, "mirror")
    notes = {key: mirror_note(sample[key]) for key in _NOTES if key in sample}
    return _on_pixels(sample, lambda pixels: pixels[:, ::-1]) | notes


def flip_vertical(sample: Sample) -> Sample:
    """Upside down. Its own inverse.

    Raises:
        ValueError: the note names a height.
    """
    _require(sample, "flip_vertical")
    return _on_pixels(sample, lambda pixels: pixels[::-1])


def rotate90(sample: Sample, turns: int) -> Sample:
    """Counter-clockwise quarter turns. A half turn is a mirror and a vertical flip.

    Raises:
        ValueError: the note names a place that the turn moves.
    """
    if turns % 4 == 0:
        return dict(sample)
    if turns % 4 == 2:
        return flip_vertical(mirror(sample))
    _require(sample, "rotate90")
    return _on_pixels(sample, lambda pixels: np.rot90(pixels, turns))


def affine(sample: Sample, *, degrees: float, scale: float, right: float, down: float) -> Sample:
    """A rotation, scaling and translation about the centre, which the note may not survive: hold it against the mask with
    [`reclmis.notes.fits`], as [`Augmentation`] does. Bilinear for
    the image, nearest neighbour for the mask; uncovered pixels are black and background.

    Args:
        degrees: counter-clockwise.
        scale: factor.
        right, down: share of the width and height.
    """
    height, width = sample["mask"].shape
    # Whole pixels, as torchvision rounds a tensor's translation anyway.
    placement = {"angle": -degrees, "translate": [round(right * width), round(down * height)], "scale": scale}
    nearest = {key: _warp(_tensor(sample[key])[None], InterpolationMode.NEAREST, placement)[0].numpy()
               for key in _MASKS if key in sample}  # fmt: skip
    image, _ = _chw(sample["image"])
    return {**sample, **nearest, "image": _hwc(_warp(image, InterpolationMode.BILINEAR, placement))}


def photometric(
    sample: Sample,
    *,
    brightness: float = 1.0,
    contrast: float = 1.0,
    saturation: float = 1.0,
    hue: float = 0.0,
    blur_sigma: float = 0.0,
) -> Sample:
    """Brightness, contrast, saturation (factors), hue (turns of the colour circle, -0.5 to 0.5) and blur (standard
    deviation in pixels), in this order, of the image alone. Grey images have no saturation and no hue to change.
    """
    image, grey = _chw(sample["image"])
    if brightness != 1:
        image = tvF.adjust_brightness(image, brightness)
    if contrast != 1:
        image = tvF.adjust_contrast(image, contrast)
    if saturation != 1 and not grey:
        image = tvF.adjust_saturation(image, saturation)
    if hue and not grey:
        image = _rotate_hue(image, hue)
    if blur_sigma > 0:
        # Reflection at the border needs more pixels than half the kernel.
        radius = min(ceil(3 * blur_sigma), min(image.shape[1:]) - 1)
        image = tvF.gaussian_blur(image, [2 * radius + 1] * 2, [blur_sigma] * 2) if radius else image
    return {**sample, "image": _hwc(image)}


@dataclass(frozen=True)
class Augmentation:
    """Which changes are drawn, and how strong.

    `augment(sample, seed=, epoch=)` is a function of (seed, epoch, sample id) alone: neither the number of workers nor
    an interrupted run changes a draw. The note fits the mask as well afterwards as it did before: a mirror or turn that
    it would not survive is left out for that sample, and so is an affine change after which its sides, count or zones
    fit worse, or which pushes the whole finding out of the image.

    Attributes:
        mirror, flip_vertical, rotate90, affine, photometric, blur: probability per sample of each change.
        degrees, scale, translate: largest rotation, change of size (share) and translation (share of the side).
        brightness, contrast, saturation, hue: largest change of the factor, or of the hue in turns.
        blur_sigma: range of the blur's standard deviation, in pixels.
        orientation: whose left the notes mean; see [`reclmis.notes.fits`].
    """

    mirror: float = 0.0
    flip_vertical: float = 0.0
    rotate90: float = 0.0
    affine: float = 0.0
    photometric: float = 0.0
    blur: float = 0.0
    degrees: float = 8.0
    scale: float = 0.1
    translate: float = 0.05
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.05
    blur_sigma: tuple[float, float] = (0.1, 1.5)
    orientation: Orientation = "image"

    def __post_init__(self) -> None:
        for name in ("mirror", "flip_vertical", "rotate90", "affine", "photometric", "blur"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` is a probability, got {getattr(self, name)}. Choose 0 to 1.")
        for name, limit in {"scale": 0.9, "translate": 1, "brightness": 1, "contrast": 1, "saturation": 1, "hue": 0.5,
                            "degrees": 180}.items():  # fmt: skip
            if not 0 <= getattr(self, name) <= limit:
                raise ValueError(f"`{name}` is the largest change, got {getattr(self, name)}. Choose 0 to {limit}.")
        if self.orientation not in get_args(Orientation):
            raise ValueError(f"`orientation` is {self.orientation!r}; choose one of {get_args(Orientation)}.")
        if not 0 < self.blur_sigma[0] <= self.blur_sigma[1]:
            raise ValueError(f"`blur_sigma` must be (least, largest) above 0, got {self.blur_sigma}.")

    @classmethod
    def none(cls) -> "Augmentation":
        """Samples as they are."""
        return cls()

    @classmethod
    def paper(cls) -> "Augmentation":
        """Blur, contrast, saturation and hue (paper 4.2), and the mirror where the note can follow it."""
        return cls(mirror=0.5, photometric=0.5, blur=0.25)

    @classmethod
    def strong(cls) -> "Augmentation":
        """`paper`, with flips, quarter turns and slight affine changes where the note allows."""
        return cls(mirror=0.5, flip_vertical=0.5, rotate90=0.5, affine=0.5, photometric=0.5, blur=0.1)

    def __call__(self, sample: Sample, *, seed: int, epoch: int) -> Sample:
        draw = sample_generator(seed, epoch, sample["id"])
        # Every number is drawn for every sample, so that one decision never shifts the next.
        chances, changes = draw.random(6), draw.uniform(-1, 1, 8)
        turns, sigma = int(draw.choice((1, 3))), float(draw.uniform(*self.blur_sigma))
        if chances[0] < self.mirror and survives(sample, "mirror"):
            sample = mirror(sample)
        if chances[1] < self.flip_vertical and survives(sample, "flip_vertical"):
            sample = flip_vertical(sample)
        if chances[2] < self.rotate90 and survives(sample, "rotate90"):
            sample = rotate90(sample, turns)
        if chances[3] < self.affine:
            sample = self._moved(sample, changes[:4])
        coloured, blurred = chances[4] < self.photometric, chances[5] < self.blur
        if coloured or blurred:
            sample = self._recoloured(sample, changes[4:] * coloured, sigma * blurred)
        return sample

    def _moved(self, sample: Sample, changes: np.ndarray) -> Sample:
        degrees, scale, right, down = changes.tolist()
        moved = affine(
            sample,
            degrees=self.degrees * degrees,
            scale=1 + self.scale * scale,
            right=self.translate * right,
            down=self.translate * down,
        )
        harmed = any(self._harmed(sample[mask], moved[mask], sample.get(note, ""))
                     for mask, note in _QUESTIONS if mask in sample)  # fmt: skip
        return sample if harmed else moved

    def _harmed(self, before: np.ndarray, after: np.ndarray, note: str) -> bool:
        """Whether a mask is lost, or fits its note less than before."""
        if before.any() and not after.any():
            return True
        if parse_note(note).finding is None:
            return False
        old, new = (fits(note, mask, orientation=self.orientation) for mask in (before, after))
        return not new.at_least(old)

    def _recoloured(self, sample: Sample, changes: np.ndarray, sigma: float) -> Sample:
        brightness, contrast, saturation, hue = changes.tolist()
        return photometric(
            sample,
            brightness=1 + self.brightness * brightness,
            contrast=1 + self.contrast * contrast,
            saturation=1 + self.saturation * saturation,
            hue=self.hue * hue,
            blur_sigma=sigma,
        )


def sample_generator(seed: int, epoch: int, sample_id: str) -> np.random.Generator:
    """Draws for one sample in one epoch, the same in every process."""
    # Not hash(): its value changes from process to process.
    digest = hashlib.sha256(f"{seed}:{epoch}:{sample_id}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def _require(sample: Sample, operation: str) -> None:
    for key in _NOTES:
        if key in sample and not note_survives(sample[key], operation):
            raise ValueError(f"The note {sample[key]!r} does not survive {operation}; leave the image as it is.")


def _on_pixels(sample: Sample, act: Callable[[np.ndarray], np.ndarray]) -> Sample:
    """A new sample, with image and masks turned by the same act."""
    changed = {key: np.ascontiguousarray(act(sample[key])) for key in ("image", *_MASKS) if key in sample}
    return {**sample, **changed}


def _warp(planes: torch.Tensor, interpolation: InterpolationMode, placement: dict[str, Any]) -> torch.Tensor:
    return tvF.affine(planes, interpolation=interpolation, shear=[0.0, 0.0], **placement)


def _rotate_hue(image: torch.Tensor, turns: float) -> torch.Tensor:
    """Turns the colours of `[3, H, W]` uint8 around the grey axis, at constant luma (YIQ).

    A matrix product, a tenth of the time of the way through HSV, and stains of histology keep their darkness.
    """
    cosine, sine = cos(2 * pi * turns), sin(2 * pi * turns)
    # From red over yellow to green, as in HSV.
    rotation = np.array([[1, 0, 0], [0, cosine, sine], [0, -sine, cosine]])
    matrix = torch.from_numpy(np.linalg.inv(_RGB_TO_YIQ) @ rotation @ _RGB_TO_YIQ).float()
    turned = matrix @ image.reshape(3, -1).float()
    return turned.round_().clamp_(0, 255).to(torch.uint8).reshape(image.shape)


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def _chw(image: np.ndarray) -> tuple[torch.Tensor, bool]:
    """`[3, H, W]`, or of a grey image one plane, which is a third of the work; and whether it is grey."""
    grey = bool((image[..., 0] == image[..., 1]).all() and (image[..., 1] == image[..., 2]).all())
    return _tensor(image[..., :1] if grey else image).permute(2, 0, 1).contiguous(), grey


def _hwc(planes: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(planes.expand(3, -1, -1).permute(1, 2, 0).numpy())
