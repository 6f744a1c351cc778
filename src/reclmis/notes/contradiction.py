"""Notes that are false of an image, from which a model learns to find nothing."""

from typing import Any

import numpy as np

from .finding import KINDS, SIDES, ZONES, Finding, Orientation
from .geometry import QATA, Geometry, finding_from_mask
from .parser import parse_note
from .writing import render

# Share of contradicting notes that deny the finding altogether.
DENIALS = 0.25


def contradicting_note(
    mask: Any,
    draw: np.random.Generator,
    *,
    orientation: Orientation,
    geometry: Geometry = QATA,
    denial: float = DENIALS,
    like: str | None = None,
) -> str:
    """A note that describes nothing of the image whose whole finding is `mask`.

    It names places where nothing is, on a side without any finding where there is one, or denies the finding.

    Args:
        mask: `[H, W]`, whatever is not 0 is infected, all of it shown; see [`finding_from_mask`].
        draw: source of the choice.
        orientation: whose left the note means.
        geometry: heights.
        denial: share of notes that say "no ..."; where every place is taken, all do.
        like: the true note, whose word for the finding is kept: a word that only false notes use would give them away.
            `None`, or a note that is not understood: one of three words by chance.
    """
    shown = finding_from_mask(mask, orientation=orientation, geometry=geometry).zones
    sides = [side for side in SIDES if not any((side, height) in shown for height in ZONES)]
    kind = KINDS[int(draw.integers(3))]
    stated = None if like is None else parse_note(like).finding
    kind = kind if stated is None else stated.kind
    denies, side_draw, count_draw = draw.random(3)
    free = [height for height in ZONES if (_picked(sides or SIDES, side_draw), height) not in shown]
    if denies < denial or not free:
        return render(Finding(present=False, kind=kind))
    side = _picked(sides or SIDES, side_draw)
    count = 1 + int(count_draw * len(free))
    heights = frozenset(free[index] for index in draw.permutation(len(free))[:count])
    left, right = (heights, None) if side == "left" else (None, heights)
    return render(Finding(kind=kind, count=count, left=left, right=right))


def _picked(sides: Any, share: float) -> str:
    return sides[int(share * len(sides))]
