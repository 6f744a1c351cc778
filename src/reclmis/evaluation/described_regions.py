"""Where in an image a note says that something is: what an answer to an altered note is held against."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from ..data.masks import read_mask
from ..notes import QATA, SIDES, Geometry, Orientation, Zone, note_zones
from .text_only import TextOnlyPredictor

# Side of the masks that the text-only predictor learns from; that of QaTa-COV19's images in LViT's layout.
LARGEST_SIDE = 224
# Where the synthetic set's opacities lie, as shares of the height: means over 300 images.
_ROW_OF_OPACITY = {"upper": 0.30, "middle": 0.48, "lower": 0.645}


def zone_boxes(
    zones: Iterable[Zone], size: tuple[int, int], *, orientation: Orientation, geometry: Geometry = QATA
) -> np.ndarray:
    """The part of the image in which areas of these zones lie, boolean `[H, W]`.

    It follows from what [`Geometry`] calls upper, middle and lower: an area that is upper and nothing else ends above the
    last row that "middle" asks for, one that is lower begins below its first, and one that is middle reaches neither of the
    outer zones. So boxes overlap, and every area is within those of its zones, but for what leans over the midline.

    Args:
        zones: `(side, height)`.
        size: height and width in pixels.
        orientation: whose left is meant; see [`reclmis.notes.finding_from_mask`].
        geometry: heights.
    """
    height, width = size
    first, last = geometry.middle
    rows = {"upper": (0.0, last), "middle": (geometry.upper, geometry.lower), "lower": (first, 1.0)}
    # The middle column of an odd width is on both sides.
    columns = {"left": slice(0, (width + 1) // 2), "right": slice(width // 2, width)}
    if orientation == "patient":
        columns = {"left": columns["right"], "right": columns["left"]}
    inside = np.zeros(size, dtype=bool)
    for side, name in zones:
        top, bottom = rows[name]
        # Rounded first: 0.56 of 100 rows is a trace more than 56.
        first_row, after_last = int(np.floor(round(top * height, 6))), int(np.ceil(round(bottom * height, 6)))
        inside[first_row:after_last, columns[side]] = True
    return inside


def shown_in_zones(
    findings: Iterable[tuple[str, np.ndarray]], zones: Iterable[Zone], *, orientation: Orientation = "image"
) -> np.ndarray:
    """What an image of the synthetic set shows in some zones, uint8 `[H, W]`: all that a note that names them describes.

    Its notes name every opacity's zone, so each pixel of a mask belongs to that zone of its note which is nearest on its
    side. Neighbours touch: of 1000 pixels 4 go to the wrong one.

    Args:
        findings: notes and their masks `[H, W]`, together everything that the image shows.
        zones: `(side, height)`.
        orientation: whose left the notes mean.
    """
    zones, sides = set(zones), SIDES if orientation == "image" else SIDES[::-1]
    shown: np.ndarray | None = None
    for note, mask in findings:
        height, width = mask.shape
        rows = (np.arange(height) + 0.5) / height
        chosen = np.zeros(mask.shape, dtype=bool)
        for side, columns in zip(sides, (slice(0, width // 2), slice(width // 2, width)), strict=True):
            named = [zone for zone in note_zones(note) if zone[0] == side]
            if named:
                nearest = np.abs(rows[:, None] - [_ROW_OF_OPACITY[name] for _, name in named]).argmin(axis=1)
                chosen[:, columns] = np.array([zone in zones for zone in named])[nearest][:, None]
        here = ((mask > 0) & chosen).astype(np.uint8)
        shown = here if shown is None else shown | here
    if shown is None:
        raise ValueError("There are no findings to choose from. Give the image's notes and masks.")
    return shown


class DescribedRegions:
    """What the text-only predictor, which never sees an image, answers to a note.

    Args:
        notes: of a training split.
        masks: its masks as HF datasets has them, any size; they are brought to one of at most `LARGEST_SIDE` pixels a side
            (nearest neighbour).

    Raises:
        ValueError: fewer than two samples, or unequal numbers.

    Attributes:
        predictor: the fitted [`TextOnlyPredictor`].
    """

    def __init__(self, notes: Sequence[str], masks: Iterable[Any]) -> None:
        truths: list[np.ndarray] = []
        for mask in masks:
            truth = read_mask(mask)
            if not truths:
                self.size = tuple(min(side, LARGEST_SIDE) for side in truth.shape)
            truths.append(resized(truth, self.size))  # type: ignore[arg-type]
        self.predictor = TextOnlyPredictor().fit(notes, truths)
        self._answers: dict[str, np.ndarray] = {}

    def answer(self, note: str, size: tuple[int, int]) -> np.ndarray:
        """The floor's mask for any note, uint8 `[H, W]`."""
        if note not in self._answers:
            self._answers[note] = self.predictor.predict(note).astype(np.uint8)
        return resized(self._answers[note], size)

    def region(self, note: str | None, size: tuple[int, int]) -> np.ndarray | None:
        """The same, where the note states a place that the parser understands; else `None`."""
        return self.answer(note, size) if note is not None and note_zones(note) else None


def resized(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask `[H, W]` at another height and width, by nearest neighbour."""
    if mask.shape == tuple(size):
        return mask
    # A copy: Pillow hands out read-only views, which tensors must not share.
    return np.array(Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST))
