"""How far one dataset lies from another: brightness, size of what is marked, and words.

Distances are Kolmogorov and Smirnov's: the largest difference between the shares of two sets that lie below a value, 0 for
equal distributions and 1 for such that do not overlap. They say that sets differ, not that a model fails.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.collate import decode_sample

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
# What a distance is computed of, one number per image.
MEASURES = ("intensity_mean", "intensity_std", "mask_share")
_EXAMPLES = 10
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Description:
    """One number per image and measure, and the words of the notes.

    Attributes:
        intensity_mean, intensity_std: of an image's brightness, 0 to 1.
        intensity_quantiles: means over images of the quantiles in `QUANTILES`.
        mask_share: share of an image that is foreground.
        heights, widths: in pixels.
        words: lower-case words of the notes and how often they occur.
        tokens: likewise of the tokenizer's ids, special ones left out.
        unknown_token: the id of the tokenizer's token for what it does not know, `None` where everything is known.
        notes: number of different notes.
    """

    intensity_mean: np.ndarray
    intensity_std: np.ndarray
    intensity_quantiles: np.ndarray
    mask_share: np.ndarray
    heights: np.ndarray
    widths: np.ndarray
    words: Counter[str]
    tokens: Counter[int]
    unknown_token: int | None
    notes: int

    def summary(self) -> dict[str, Any]:
        """For JSON: means over images, and ranges of sizes."""
        return {
            "images": len(self.mask_share),
            **{f"{name}_per_image": float(getattr(self, name).mean()) for name in MEASURES},
            "intensity_quantiles_per_image": dict(zip(map(str, QUANTILES), self.intensity_quantiles.tolist(), strict=True)),
            "empty_masks": int((self.mask_share == 0).sum()),
            "height": [int(self.heights.min()), int(self.heights.max())],
            "width": [int(self.widths.min()), int(self.widths.max())],
            "notes": self.notes,
            "words": len(self.words),
        }  # fmt: skip


def describe(dataset: Any, tokenizer: Any, num_labels: int = 1) -> Description:
    """Reads every image, mask and note of a split once.

    Args:
        dataset: of HF datasets, with `image`, `mask`, `note` and `id`.
        tokenizer: of the model's processor.
        num_labels: classes of the masks.

    Raises:
        ValueError: no rows, or a sample that cannot be read.
    """
    if not len(dataset):
        raise ValueError("A split without images cannot be described.")
    numbers, quantiles = [], []
    for row in range(len(dataset)):
        sample = decode_sample(dataset[row], num_labels)
        grey = sample["image"].mean(axis=2) / 255
        numbers.append((grey.mean(), grey.std(), (sample["mask"] > 0).mean(), *grey.shape))
        quantiles.append(np.quantile(grey, QUANTILES))
    mean, std, share, heights, widths = np.array(numbers).T
    notes = Counter(dataset["note"])
    return Description(
        mean, std, np.mean(quantiles, axis=0), share, heights, widths,
        _counted((_WORD.findall(note.lower()), number) for note, number in notes.items()),
        _counted((tokenizer(note, add_special_tokens=False, verbose=False)["input_ids"], number)
                 for note, number in notes.items()),
        getattr(tokenizer, "unk_token_id", None), len(notes),
    )  # fmt: skip


def shift_between(reference: Description, other: Description) -> dict[str, Any]:
    """What differs between a set and the one that a model learned from.

    Returns:
        For JSON: of each of `MEASURES` the Kolmogorov-Smirnov `distance` and its two-sided `p` value; `unknown_words`, the
        share of the other's words (each as often as it occurs) that the reference does not have, with the most frequent of
        them; `new_tokens`, likewise of the tokenizer's tokens: the model never learned what they mean; and
        `unknown_tokens`, the share that the tokenizer itself does not know.
    """
    from scipy.stats import ks_2samp

    distances = {}
    for name in MEASURES:
        found = ks_2samp(getattr(reference, name), getattr(other, name))
        distances[name] = {"distance": float(found.statistic), "p": float(found.pvalue)}
    strange = Counter({word: number for word, number in other.words.items() if word not in reference.words})
    return {
        "kolmogorov_smirnov": distances,
        "unknown_words": _share(strange, other.words),
        "most_frequent_unknown_words": [word for word, _ in strange.most_common(_EXAMPLES)],
        "new_tokens": _share([token for token in other.tokens if token not in reference.tokens], other.tokens),
        "unknown_tokens": _share([other.unknown_token] if other.unknown_token is not None else [], other.tokens),
    }


def _counted(pieces: Iterable[tuple[list[Any], int]]) -> Counter:
    """Pieces of notes, each note as often as it occurs."""
    counts: Counter = Counter()
    for found, number in pieces:
        for piece in found:
            counts[piece] += number
    return counts


def _share(chosen: Iterable[Any], counts: Counter) -> float:
    return sum(counts[piece] for piece in chosen) / max(sum(counts.values()), 1)


__all__ = ["MEASURES", "QUANTILES", "Description", "describe", "shift_between"]
