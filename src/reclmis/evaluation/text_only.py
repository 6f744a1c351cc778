"""The floor under any score: a mask from the note alone, without looking at the image."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from ..data.notes import note_zones
from .metrics import SegmentationMeter

Zones = frozenset[tuple[str, str]]


class TextOnlyPredictor:
    """Answers with the mean training mask of the note's zones, cut at a threshold chosen on the training set.

    Notes of QaTa-COV19 were written from the masks, so this reaches far without an image; a model that does not beat it
    has learned nothing from pixels. A combination of zones that training lacks is answered by the training combination
    that shares most with it.

    Attributes:
        threshold: share of training masks that must cover a pixel.
        exact: share of the notes asked so far whose zones training had.
    """

    def __init__(self) -> None:
        self._means: dict[Zones, np.ndarray] = {}
        self.threshold = 0.5
        self._asked = self._exact = 0

    def fit(self, notes: Sequence[str], masks: Iterable[np.ndarray]) -> "TextOnlyPredictor":
        """Learns from notes and their 0/1 masks `[H, W]` of one size. The threshold maximises the per-image Dice of
        leave-one-out predictions on this set.

        Raises:
            ValueError: no samples, or masks of different sizes.
        """
        groups: dict[Zones, list[np.ndarray]] = defaultdict(list)
        for note, mask in zip(notes, masks, strict=True):
            groups[note_zones(note)].append(np.asarray(mask, dtype=bool))
        sizes = {mask.shape for members in groups.values() for mask in members}
        if len(sizes) != 1:
            raise ValueError(f"Masks of one size are needed, got {sorted(sizes) or 'none'}.")
        self._means = {zones: np.mean(members, axis=0) for zones, members in groups.items()}
        self.threshold = self._best_threshold(groups)
        return self

    def predict(self, note: str) -> np.ndarray:
        """The 0/1 mask `[H, W]` for a note."""
        if not self._means:
            raise ValueError("Fit the predictor first.")
        zones = note_zones(note)
        self._asked += 1
        self._exact += zones in self._means
        return self._means[self._nearest(zones)] >= self.threshold

    @property
    def exact(self) -> float:
        return self._exact / self._asked if self._asked else float("nan")

    def _nearest(self, zones: Zones) -> Zones:
        def likeness(other: Zones) -> tuple[float, list]:
            union = len(zones | other)
            return (len(zones & other) / union if union else 1.0, sorted(other))

        return zones if zones in self._means else max(self._means, key=likeness)

    @staticmethod
    def _best_threshold(groups: dict[Zones, list[np.ndarray]]) -> float:
        candidates = np.arange(0.1, 0.71, 0.05)
        scores = np.zeros(len(candidates))
        for members in groups.values():
            if len(members) == 1:
                continue
            total = np.sum(members, axis=0, dtype=np.int64)
            for mask in members:
                others = (total - mask) / (len(members) - 1)
                for index, threshold in enumerate(candidates):
                    guess = others >= threshold
                    size = guess.sum() + mask.sum()
                    scores[index] += 2 * (guess & mask).sum() / size if size else 1.0
        return float(candidates[int(scores.argmax())])

    def score(self, notes: Sequence[str], masks: Iterable[np.ndarray], ids: Sequence[str]) -> dict[str, float]:
        """Metrics of [`SegmentationMeter`] on other notes and masks."""
        meter = SegmentationMeter()
        for name, note, mask in zip(ids, notes, masks, strict=True):
            meter.update([self.predict(note)], [np.asarray(mask, dtype=bool)], [name])
        return meter.compute()
