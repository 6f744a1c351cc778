"""Notes that are false of an image, from which a model learns to find nothing."""

from collections import Counter
from collections.abc import Iterable
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


class NotePool:
    """The notes of a set by the places that they name, to find among them one that is false of an image.

    A note that somebody wrote of another image cannot be told from a true one by its wording, as one that was written to be
    false might be.

    Args:
        notes: of the set, as often as they occur there. Those that are not understood, deny, or name no place are left out.
    """

    def __init__(self, notes: Iterable[str]) -> None:
        counted = Counter(notes)
        stated = {note: parse_note(note).finding for note in counted}
        self._zones = {
            note: finding.zones for note, finding in stated.items() if finding and finding.present and finding.zones
        }
        self._counts = {note: counted[note] for note in self._zones}

    def all_false_of(self, mask: Any, *, orientation: Orientation, geometry: Geometry = QATA) -> list[str]:
        """The notes, each once, that name only places where nothing is."""
        shown = finding_from_mask(mask, orientation=orientation, geometry=geometry).zones
        return [note for note, zones in self._zones.items() if not zones & shown]

    def false_of(
        self, mask: Any, draw: np.random.Generator, *, orientation: Orientation, geometry: Geometry = QATA
    ) -> str | None:
        """A note that names only places where nothing is, drawn as often as it occurs; `None` where there is none. Arguments
        as of [`contradicting_note`]."""
        free = self.all_false_of(mask, orientation=orientation, geometry=geometry)
        if not free:
            return None
        until = np.cumsum([self._counts[note] for note in free])
        return free[int(np.searchsorted(until, draw.integers(until[-1]), side="right"))]


def _picked(sides: Any, share: float) -> str:
    return sides[int(share * len(sides))]
