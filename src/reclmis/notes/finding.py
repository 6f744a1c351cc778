"""What a note can say, as data: whether, where and how many. Nothing else of it reaches a mask."""

from dataclasses import dataclass, replace
from typing import Literal

SIDES = ("left", "right")
ZONES = ("upper", "middle", "lower")
Zone = tuple[str, str]
Laterality = Literal["unilateral", "bilateral"]
Orientation = Literal["image", "patient"]

KINDS = ("pulmonary infection", "pulmonary opacity", "ground-glass opacity", "consolidation", "infiltrate", "pneumonia")


@dataclass(frozen=True)
class Finding:
    """One note's claim. Sides are as written; whose left that is, [`fits`] and [`note_from_mask`] ask.

    Attributes:
        present: `False` for "no pulmonary infection".
        kind: one of `KINDS`.
        laterality: follows from the sides where any is named.
        count: number of infected areas, at least 1; 0 when absent; `None` when unsaid.
        left, right: heights named on a side, of `ZONES`. Empty: the side alone ("left lung"). `None`: not the side.

    Raises:
        ValueError: values that contradict each other, so that a finding always is one that a note could state.
    """

    present: bool = True
    kind: str = KINDS[0]
    laterality: Laterality | None = None
    count: int | None = None
    left: frozenset[str] | None = None
    right: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"`kind` is {self.kind!r}; notes know {', '.join(KINDS)}.")
        for side in SIDES:
            unknown = set(self.heights(side) or ()) - set(ZONES)
            if unknown:
                raise ValueError(f"`{side}` names {sorted(unknown)}; heights are {', '.join(ZONES)}.")
        named: dict[int, Laterality | None] = {0: self.laterality, 1: "unilateral", 2: "bilateral"}
        implied = named[len(self.sides)]
        if self.laterality not in (None, implied) or self.laterality not in (None, "unilateral", "bilateral"):
            raise ValueError(f"`laterality` is {self.laterality!r}, but the sides named are {sorted(self.sides)}.")
        if not self.present and (implied or self.count):
            raise ValueError("An absent finding has no side and no infected area. Set `present`, or leave them out.")
        if self.present and self.count is not None and self.count < 1:
            raise ValueError(f"`count` is {self.count}; a finding has at least 1 area. Set `present=False` for none.")
        object.__setattr__(self, "laterality", implied)
        object.__setattr__(self, "count", self.count if self.present else 0)

    def heights(self, side: str) -> frozenset[str] | None:
        return self.left if side == "left" else self.right

    @property
    def sides(self) -> frozenset[str]:
        """The sides named."""
        return frozenset(side for side in SIDES if self.heights(side) is not None)

    @property
    def zones(self) -> frozenset[Zone]:
        """The places named as `(side, height)`; a side alone is all of its lung."""
        return frozenset((side, height) for side in self.sides for height in self.heights(side) or ZONES)

    @property
    def names_heights(self) -> bool:
        return bool(self.left or self.right)

    def mirrored(self) -> "Finding":
        """The same claim about the mirrored image."""
        return replace(self, left=self.right, right=self.left)
