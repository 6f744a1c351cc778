"""Whether a pixel's foreground probability is one: of all pixels at 0.8, is the truth there in 80 of 100?"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import numpy as np
import torch

from ..data.collate import decode_sample

BINS = 20
# Pixels of each image from which a temperature is fitted.
_PIXELS_TO_FIT = 4096
_TEMPERATURES = (0.05, 20.0)
# A float32 sigmoid is 0 or 1 beyond this.
_LARGEST_LOGIT = 16.0


@dataclass
class Reliability:
    """Counts over all pixels of a set, in bins of equal width of the foreground probability.

    Attributes:
        bins: their number over 0 to 1; even, so that 0.5 is an edge.
        pixels, probability, foreground: per bin the number of pixels, the sum of their probabilities, and of their truths.
        squares: sum of squared differences between probability and truth.
    """

    bins: int = BINS
    pixels: np.ndarray = field(init=False)
    probability: np.ndarray = field(init=False)
    foreground: np.ndarray = field(init=False)
    squares: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        if self.bins < 2 or self.bins % 2:
            raise ValueError(f"`bins` must be an even number, so that 0.5 is an edge, got {self.bins}.")
        self.pixels, self.probability, self.foreground = np.zeros(self.bins, dtype=np.int64), *np.zeros((2, self.bins))

    def update(self, probability: Any, truth: Any) -> None:
        """Adds an image.

        Args:
            probability: of foreground, 0 to 1, any shape.
            truth: of the same shape; whatever is not 0 is foreground.

        Raises:
            ValueError: unequal shapes, or values that are no probability.
        """
        values, truths = np.asarray(probability, dtype=np.float64), np.asarray(truth) != 0
        if values.shape != truths.shape:
            raise ValueError(f"Probabilities {list(values.shape)}, but truth {list(truths.shape)}.")
        if values.size and not (values.min() >= 0 and values.max() <= 1):
            raise ValueError(f"Values from {values.min()} to {values.max()} are no probabilities. Apply the sigmoid.")
        values, truths = values.ravel(), truths.ravel()
        rows = np.minimum((values * self.bins).astype(int), self.bins - 1)
        self.pixels += np.bincount(rows, minlength=self.bins)
        self.probability += np.bincount(rows, weights=values, minlength=self.bins)
        self.foreground += np.bincount(rows, weights=truths, minlength=self.bins)
        self.squares += float(((values - truths) ** 2).sum())

    def compute(self) -> dict[str, float]:
        """One count over all pixels of the set:

        - `ece_equal_width_<bins>_pooled`: the expected calibration error, the mean over pixels of the distance between
          probability and frequency in their bin,
        - `ece_of_predicted_foreground_equal_width_<bins>_pooled`: likewise over the pixels from 0.5 on, as the background
          that most of an image is outweighs them; absent where there are none,
        - `brier_pooled`: the mean squared distance between probability and truth.

        Raises:
            ValueError: no pixel was added.
        """
        if not self.pixels.sum():
            raise ValueError("No pixel was added, so there is nothing to average.")
        distances = np.abs(self.probability - self.foreground)
        name = f"equal_width_{self.bins}_pooled"
        metrics = {f"ece_{name}": float(distances.sum() / self.pixels.sum())}
        upper = slice(self.bins // 2, None)
        if self.pixels[upper].any():
            metrics[f"ece_of_predicted_foreground_{name}"] = float(distances[upper].sum() / self.pixels[upper].sum())
        return {**metrics, "brier_pooled": self.squares / float(self.pixels.sum())}

    def curve(self) -> list[dict[str, float]]:
        """The bins that hold pixels: `from`, `to`, `pixels`, mean `probability`, and `frequency` of foreground."""
        return [
            {"from": row / self.bins, "to": (row + 1) / self.bins, "pixels": int(number),
             "probability": float(self.probability[row] / number), "frequency": float(self.foreground[row] / number)}
            for row, number in enumerate(self.pixels) if number
        ]  # fmt: skip


def fit_temperature(logits: Any, truths: Any) -> float:
    """The T of least negative log-likelihood of `sigmoid(logits / T)`, which changes no mask at a threshold of 0.5.

    A search along log T from 0.05 to 20, in which the likelihood has one peak.

    Args:
        logits: of pixels, any shape.
        truths: of the same shape; whatever is not 0 is foreground.

    Raises:
        ValueError: unequal shapes, or no pixels.
    """
    from scipy.optimize import minimize_scalar

    values, signs = np.asarray(logits, dtype=np.float64).ravel(), np.where(np.asarray(truths).ravel() != 0, 1.0, -1.0)
    if values.shape != signs.shape or not values.size:
        raise ValueError(f"A temperature needs as many truths as logits, got {values.size} and {signs.size}.")

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0, -signs * values / np.exp(log_temperature)).mean())

    found = minimize_scalar(loss, bounds=tuple(np.log(_TEMPERATURES)), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


def calibration(model: Any, processor: Any, dataset: Any, *, batch_size: int = 16, bins: int = BINS) -> dict[str, Any]:
    """A temperature fitted on one half of a split's images, and what it changes on the other.

    Ids decide which half an image is of (an even or odd CRC-32), so that order and company change nothing. Probabilities are
    those at the images' own size, under their own notes; a presence score does not empty them here. With several classes,
    foreground is whatever is no background.

    Returns:
        `temperature`, `fitted_on` and `reported_on` (numbers of images), `binning` in words, and `before` and `after`, each
        with [`Reliability.compute`] as `metrics` and [`Reliability.curve`] as `curve`.

    Raises:
        ValueError: a half without images.
    """
    halves: dict[int, list[int]] = {0: [], 1: []}
    for row, name in enumerate(dataset["id"]):
        halves[crc32(str(name).encode()) % 2].append(row)
    if not (halves[0] and halves[1]):
        raise ValueError(f"{len(dataset)} images do not make two halves by their ids. Give a larger split.")
    logits, truths = [], []
    for name, logit, truth in _logits(model, processor, dataset.select(halves[0]), batch_size):
        draw = np.random.default_rng(crc32(name.encode()))
        chosen = draw.integers(truth.size, size=min(truth.size, _PIXELS_TO_FIT))
        logits.append(logit.ravel()[chosen])
        truths.append(truth.ravel()[chosen])
    temperature = fit_temperature(np.concatenate(logits), np.concatenate(truths))
    before, after = Reliability(bins), Reliability(bins)
    for _, logit, truth in _logits(model, processor, dataset.select(halves[1]), batch_size):
        before.update(_sigmoid(logit), truth)
        after.update(_sigmoid(logit / temperature), truth)
    return {
        "temperature": temperature,
        "fitted_on": len(halves[0]),
        "reported_on": len(halves[1]),
        "binning": f"{bins} bins of equal width over the foreground probability, all pixels of the set counted once",
        "before": {"metrics": before.compute(), "curve": before.curve()},
        "after": {"metrics": after.compute(), "curve": after.curve()},
    }


@torch.no_grad()
def _logits(model: Any, processor: Any, dataset: Any, batch_size: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Ids, foreground logits and truths `[H, W]`, at the images' own size."""
    model.eval()
    # Padded to the largest of a batch, an image would be answered according to its company.
    step = batch_size if processor.image_processor.do_resize else 1
    for start in range(0, len(dataset), step):
        rows = range(start, min(start + step, len(dataset)))
        samples = [decode_sample(dataset[row], model.config.num_labels) for row in rows]
        inputs = processor(images=[sample["image"] for sample in samples], text=[sample["note"] for sample in samples],
                           return_tensors="pt")  # fmt: skip
        probabilities = processor.post_process_semantic_segmentation(
            model(**inputs.to(model.device)),
            target_sizes=[sample["mask"].shape for sample in samples],
            return_probabilities=True,
            presence_threshold=0.0,
        )
        for sample, probability in zip(samples, probabilities, strict=True):
            foreground = probability if probability.ndim == 2 else probability[1:].sum(dim=0)
            # Double precision, as 1 - p is nothing in single where p is nearly 1.
            logit = torch.logit(foreground.double().clamp(0, 1)).clamp(-_LARGEST_LOGIT, _LARGEST_LOGIT)
            yield str(sample["id"]), logit.cpu().numpy(), sample["mask"]


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(logits / 2))
