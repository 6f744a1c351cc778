"""Mask -> finding, and whether a note and a mask say the same."""

from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

import numpy as np

from .finding import KINDS, SIDES, Finding, Orientation
from .parser import parse_note
from .writing import render


class Geometry(NamedTuple):
    """What the annotators of QaTa-COV19 call upper, middle and lower, as shares of the image's height from the top.

    An infected area is upper when it reaches above `upper`, lower when it reaches below `lower`, and middle when it
    covers `middle`, or is neither of the others. `benchmarks/notes.py` searches these heights on the training notes;
    thirds, of the image or of any fixed extent of the lungs, agree less with them.
    """

    upper: float = 0.26
    lower: float = 0.56
    middle: tuple[float, float] = (0.34, 0.46)


QATA = Geometry()
# An area that leans over the midline is on the other side too from this share of its pixels on. Of 0 to 0.5, this agrees
# best with the sides that QaTa-COV19's training notes name.
_SHARE_OF_SIDE = 0.2


@dataclass(frozen=True)
class NoteFit:
    """How a note and a mask agree; `None` where the note says nothing to hold against the mask.

    Attributes:
        stated: what the note says; `None` when it was not understood.
        seen: what the mask shows, sides in the orientation asked for.
        presence: something is there, or nothing is, as stated.
        sides: the sides stated are the sides seen.
        count: the number stated is the number of connected areas.
        zones: on all sides stated with heights, the heights are those seen.
        zone_overlap: zones both stated and seen, by all of either, on those sides. 0 to 1.
    """

    stated: Finding | None
    seen: Finding
    presence: bool | None = None
    sides: bool | None = None
    count: bool | None = None
    zones: bool | None = None
    zone_overlap: float | None = None

    @property
    def holds(self) -> bool:
        """Nothing that the note says is wrong."""
        return False not in (self.presence, self.sides, self.count, self.zones)

    def at_least(self, other: "NoteFit") -> bool:
        """No part of this fit is worse than in the other."""
        pairs = [(getattr(self, part), getattr(other, part)) for part in ("presence", "sides", "count", "zone_overlap")]
        return all(theirs is None or (ours is not None and ours >= theirs) for ours, theirs in pairs)


def finding_from_mask(
    mask: Any, *, orientation: Orientation, kind: str = KINDS[0], geometry: Geometry = QATA
) -> Finding:
    """What a mask shows: its connected areas (diagonal neighbours touch), their sides and heights.

    Args:
        mask: `[H, W]`, whatever is not 0 is infected. It shows a frontal chest, upright.
        orientation: `"image"`: left is the image's left, as in QaTa-COV19 and MosMedData+; `"patient"`: left is the
            patient's, on the right of a radiograph as it is hung.
        kind: what to call it, of `KINDS`: a mask does not tell.
        geometry: heights.

    Raises:
        ValueError: another shape, or another orientation.
    """
    if orientation not in get_args(Orientation):
        raise ValueError(f"`orientation` is {orientation!r}. Say whose left is meant: {get_args(Orientation)}.")
    mask = np.asarray(mask)
    if mask.ndim != 2 or not mask.size:
        raise ValueError(f"A mask must be [H, W] with some pixels, got shape {mask.shape}. Take one class.")
    areas = _areas(mask != 0)
    if not areas:
        return Finding(present=False, kind=kind)
    heights: dict[str, set[str]] = {}
    for area in areas:
        for side, rows in area.items():
            heights.setdefault(side, set()).update(_heights(*rows, geometry))
    finding = Finding(
        kind=kind, count=len(areas), left=_frozen(heights.get("left")), right=_frozen(heights.get("right"))
    )
    return finding if orientation == "image" else finding.mirrored()


def note_from_mask(mask: Any, *, orientation: Orientation, kind: str = KINDS[0], geometry: Geometry = QATA) -> str:
    """The sentence that an annotator of QaTa-COV19 would write under a mask; see [`finding_from_mask`]."""
    return render(finding_from_mask(mask, orientation=orientation, kind=kind, geometry=geometry))


def fits(note: str | Finding, mask: Any, *, orientation: Orientation, geometry: Geometry = QATA) -> NoteFit:
    """Whether the note is true of the mask: presence, sides, count and zones apart. Arguments as of
    [`finding_from_mask`]."""
    seen = finding_from_mask(mask, orientation=orientation, geometry=geometry)
    stated = parse_note(note).finding if isinstance(note, str) else note
    if stated is None:
        return NoteFit(None, seen)
    if not (stated.present and seen.present):
        return NoteFit(stated, seen, presence=stated.present == seen.present)
    sides = [side for side in SIDES if stated.heights(side)]
    said = {zone for zone in stated.zones if zone[0] in sides}
    shown = {zone for zone in seen.zones if zone[0] in sides}
    return NoteFit(
        stated,
        seen,
        presence=True,
        sides=_sides_agree(stated, seen),
        count=None if stated.count is None else stated.count == seen.count,
        zones=said == shown if sides else None,
        zone_overlap=len(said & shown) / len(said | shown) if sides else None,
    )


def _sides_agree(stated: Finding, seen: Finding) -> bool | None:
    if stated.laterality is None:
        return None
    return stated.sides == seen.sides if stated.sides else stated.laterality == seen.laterality


def _heights(top: float, bottom: float, geometry: Geometry) -> set[str]:
    """Of an area between two shares of the image's height."""
    first, last = geometry.middle
    named = {"upper": top < geometry.upper, "lower": bottom > geometry.lower, "middle": top < first and bottom > last}
    return {height for height, holds in named.items() if holds} or {"middle"}


def _frozen(heights: set[str] | None) -> frozenset[str] | None:
    return None if heights is None else frozenset(heights)


def _areas(mask: np.ndarray) -> list[dict[str, tuple[float, float]]]:
    """For every connected area its top and bottom, as shares of the height, on each side that it is on."""
    from scipy import ndimage

    labels, number = ndimage.label(mask, structure=np.ones((3, 3)))
    if not number:
        return []
    height, width = mask.shape
    half = width // 2
    sizes = np.bincount(labels.ravel(), minlength=number + 1)[1:]
    areas: list[dict[str, tuple[float, float]]] = [{} for _ in range(number)]

    def rows(place: tuple[slice, slice]) -> tuple[float, float]:
        return place[0].start / height, place[0].stop / height

    # The middle column of an odd width is on neither side.
    for side, part in (("left", labels[:, :half]), ("right", labels[:, width - half :])):
        shares = np.bincount(part.ravel(), minlength=number + 1)[1:] / sizes
        for area, share, place in zip(areas, shares, ndimage.find_objects(part, number), strict=True):
            if share > _SHARE_OF_SIDE:
                area[side] = rows(place)
    for area, place in zip(areas, ndimage.find_objects(labels), strict=True):
        if not area:
            area.update(dict.fromkeys(SIDES, rows(place)))
    return areas
