"""The floor under any score: a mask from the note alone, without looking at the image."""

from collections.abc import Iterable, Sequence

import numpy as np

from ..notes import SIDES, Zone, note_zones
from .metrics import SegmentationMeter

Zones = frozenset[Zone]

# What a training mask still counts, in one half of the image, for each zone of that half and of the other half in which
# its note differs from the one asked. Out of 0.03 to 0.3 and 0.1 to 1, by five-fold cross-validation on QaTa-COV19's
# training part at 56 pixels: Dice per image 0.497, against 0.493 with 0.1 for both. The number of areas as a further
# condition, mirrored training notes, smoothing, and a threshold of each note's own gained 0.003 or less, and are left out.
DECAY = 0.1
DECAY_OF_OTHER_SIDE = 0.7
THRESHOLDS = tuple(step / 50 for step in range(5, 36))


class TextOnlyPredictor:
    """Answers with the mean training mask of the note's zones, cut at a threshold chosen on the training set.

    Notes of QaTa-COV19 were written from the masks, so this reaches far without an image; a model that does not beat it
    has learned nothing from pixels. Three choices make it as strong a floor as we could build, so that beating it means
    something: each half of the image is answered from masks of notes that say the same of that half, or nearly, whatever
    they say of the other (six zones make 64 combinations, three make 8); small masks count as much as large ones, as
    they do in a per-image Dice; and the cut is relative to the mean's peak, so that no combination is answered with
    nothing.

    Attributes:
        threshold: share of the mean mask's peak above which a pixel belongs to the answer.
        exact: share of the notes asked so far whose zones training had.
    """

    def __init__(self) -> None:
        self._zones: list[Zones] = []
        self._numbers = np.zeros(0)
        self._sums = np.zeros((0, 0, 0))
        self.threshold = 0.5
        self._asked = self._exact = 0

    def fit(self, notes: Sequence[str], masks: Iterable[np.ndarray]) -> "TextOnlyPredictor":
        """Learns from notes and their 0/1 masks `[H, W]` of one size. The threshold maximises the per-image Dice of
        leave-one-out predictions on this set.

        Raises:
            ValueError: unequal numbers, fewer than two samples, or masks of different sizes.
        """
        truths = [np.asarray(mask, dtype=bool) for mask in masks]
        sizes = {truth.shape for truth in truths}
        if len(notes) != len(truths) or len(truths) < 2 or len(sizes) != 1:
            raise ValueError(
                f"At least two notes with masks of one size are needed, got {len(notes)} notes and {len(truths)} masks "
                f"of sizes {sorted(sizes)}."
            )
        areas = np.array([truth.sum() for truth in truths])
        shares = (1 / (areas + max(areas.mean(), 1.0))).astype(np.float32)
        groups = [note_zones(note) for note in notes]
        self._zones = sorted(set(groups), key=sorted)
        self._sums = np.zeros((len(self._zones), *truths[0].shape), dtype=np.float32)
        rows = [self._zones.index(zones) for zones in groups]
        self._numbers = np.bincount(rows).astype(np.float32)
        for row, truth, share in zip(rows, truths, shares, strict=True):
            self._sums[row] += truth * share
        means = [self._mean(zones) for zones in self._zones]
        totals = [self._weights(zones).sum(axis=1) @ self._halves() for zones in self._zones]
        self.threshold = _best_threshold(
            ((means[row] * totals[row] - truth * share) / (totals[row] - 1), truth)
            for row, truth, share in zip(rows, truths, shares, strict=True)
        )
        return self

    def predict(self, note: str) -> np.ndarray:
        """The 0/1 mask `[H, W]` for a note.

        Raises:
            ValueError: not fitted yet.
        """
        if not self._zones:
            raise ValueError("Fit the predictor first.")
        zones = note_zones(note)
        self._asked += 1
        self._exact += zones in self._zones
        return _cut(self._mean(zones), self.threshold)

    @property
    def exact(self) -> float:
        return self._exact / self._asked if self._asked else float("nan")

    def score(self, notes: Sequence[str], masks: Iterable[np.ndarray], ids: Sequence[str]) -> dict[str, float]:
        """Metrics of [`SegmentationMeter`] on other notes and masks."""
        meter = SegmentationMeter()
        for name, note, mask in zip(ids, notes, masks, strict=True):
            meter.update([self.predict(note)], [np.asarray(mask, dtype=bool)], [name])
        return meter.compute()

    def _mean(self, zones: Zones) -> np.ndarray:
        """`[H, W]`, up to a factor."""
        weights = self._weights(zones)
        left, right = np.tensordot(weights / self._numbers / weights.sum(axis=1, keepdims=True), self._sums, axes=1)
        on_left, on_right = self._halves()
        return left * on_left + right * on_right

    def _weights(self, zones: Zones) -> np.ndarray:
        """What all training masks of each combination count together in the left and in the right half, `[2, N]`."""
        differing = [[sum(zone[0] == side for zone in zones ^ other) for other in self._zones] for side in SIDES]
        left, right = np.array(differing)
        weights = np.stack([DECAY**left * DECAY_OF_OTHER_SIDE**right, DECAY**right * DECAY_OF_OTHER_SIDE**left])
        return (self._numbers * weights).astype(np.float32)

    def _halves(self) -> np.ndarray:
        """How much of a column is on the left and on the right, `[2, W]`: half and half in the middle of an odd width."""
        width = self._sums.shape[2]
        on_left = np.clip(width / 2 - np.arange(width, dtype=np.float32), 0, 1)
        return np.stack([on_left, 1 - on_left])


def _cut(mean: np.ndarray, threshold: float) -> np.ndarray:
    return mean > np.float32(threshold) * max(mean.max(), 0)


def _best_threshold(samples: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """The threshold of the highest sum of Dice, over mean masks that leave the sample out, and the samples' masks."""
    scores = np.zeros(len(THRESHOLDS))
    for mean, truth in samples:
        # Rounding leaves crumbs where only this sample's mask was.
        mean = np.where(mean > 1e-6 * mean.max(), mean, 0)
        for index, threshold in enumerate(THRESHOLDS):
            guess = _cut(mean, threshold)
            size = guess.sum() + truth.sum()
            scores[index] += 2 * (guess & truth).sum() / size if size else 1.0
    return THRESHOLDS[int(scores.argmax())]
