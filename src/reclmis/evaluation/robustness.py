"""How a score holds on worse images, and on images from elsewhere."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..images import to_rgb8
from ..processing_reclmis import NoteTooLongWarning
from .calibration import calibration
from .certificate import METRICS
from .corruptions import CORRUPTIONS, SEVERITIES, Severity, corrupt, seed_of
from .distribution_shift import describe, shift_between
from .many_notes import notes_cut
from .scores import Evaluation, score_split


def measure_robustness(
    model: Any,
    processor: Any,
    dataset: Any,
    train: Any | None = None,
    *,
    others: Mapping[str, Any] | None = None,
    corruptions: Iterable[str] | None = None,
    seed: int = 0,
    batch_size: int = 16,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """All that `reclmis robustness` reports: scores on worse images and on other datasets, how far those lie from what the
    model learned from, and whether its probabilities are such.

    Args:
        model, processor: see [`score_split`].
        dataset: the split that is measured, of HF datasets with `image`, `mask`, `note` and `id`.
        train: the split that the model learned from, with which the others are compared; without it they are compared with
            `dataset`.
        others: other datasets by name, with masks of the same classes.
        corruptions: of [`CORRUPTIONS`], by default all.
        seed: of what is random in them.
        batch_size: images per forward pass.
        progress: told what is being done.

    Returns:
        For JSON: `images`, `seed`, `notes_cut` (by dataset, how many notes are longer than the model reads); `clean`,
        `corruptions` and `mean_relative` ([`corruption_table`]); `domains`, the metrics on other datasets under their own
        notes, with `relative` as there; `shift`, what the sets are like ([`Description.summary`]) and how far they lie from
        the `reference` ([`shift_between`]); and `calibration`.

    Raises:
        ValueError: see [`corruption_table`] and [`calibration`]; data that cannot be read.
    """
    say = progress or (lambda _: None)
    chosen = tuple(CORRUPTIONS) if corruptions is None else tuple(corruptions)
    labels, tokenizer = model.config.num_labels, processor.tokenizer
    domains = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoteTooLongWarning)  # counted instead
        table = corruption_table(model, processor, dataset, corruptions=chosen, seed=seed, batch_size=batch_size,
                                 progress=say)  # fmt: skip
        for name, other in (others or {}).items():
            say(f"dataset {name}")
            scores = metrics_of(score_split(model, processor, other, batch_size=batch_size))
            domains[name] = relative_to(table["clean"], scores)
        say("calibration")
        calibrated = calibration(model, processor, dataset, batch_size=batch_size)
    say("distributions")
    sets = {"this split": dataset, **(others or {})}
    described = {name: describe(rows, tokenizer, labels) for name, rows in sets.items()}
    reference = described.pop("this split") if train is None else describe(train, tokenizer, labels)
    return {
        "images": len(dataset),
        "seed": seed,
        "notes_cut": {name: notes_cut(processor, dict(enumerate(rows["note"]))) for name, rows in sets.items()},
        **table,
        "domains": domains,
        "shift": {
            "reference": {"name": "this split" if train is None else "training split", **reference.summary()},
            "sets": {name: {**found.summary(), **shift_between(reference, found)} for name, found in described.items()},
        },
        "calibration": calibrated,
    }


def corruption_table(
    model: Any,
    processor: Any,
    dataset: Any,
    *,
    corruptions: Iterable[str] = tuple(CORRUPTIONS),
    seed: int = 0,
    batch_size: int = 16,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Scores a split as it is, and under every corruption and severity, at the images' own size and under their own notes.

    Args:
        model, processor: see [`score_split`].
        dataset: of HF datasets, with `image`, `mask`, `note` and `id`.
        corruptions: of [`CORRUPTIONS`].
        seed: of what is random in them; an image's noise depends on it and the image's id alone.
        batch_size: images per forward pass.
        progress: told what is being done.

    Returns:
        `clean` with its metrics; by corruption and severity the metrics, and `relative`, Dice per image as a share of the
        clean one; and `mean_relative`, the mean of those, `None` without any.

    Raises:
        ValueError: a corruption that does not exist, or a clean Dice of 0, to which nothing is relative.
    """
    unknown = [name for name in corruptions if name not in CORRUPTIONS]
    if unknown:
        raise ValueError(f"There is no corruption {unknown[0]!r}; there are {', '.join(CORRUPTIONS)}.")
    clean = metrics_of(score_split(model, processor, dataset, batch_size=batch_size))
    if not clean["dice_per_image"]:
        raise ValueError("The Dice of the images as they are is 0, so that no loss can be told.")
    table: dict[str, dict[str, dict[str, float]]] = {}
    for name in corruptions:
        if progress is not None:
            progress(f"corruption {name}")
        table[name] = {}
        for severity in SEVERITIES:
            worse = corrupted(dataset, name, severity, seed)
            scores = metrics_of(score_split(model, processor, worse, batch_size=batch_size))
            table[name][severity] = relative_to(clean, scores)
    relatives = [row["relative"] for severities in table.values() for row in severities.values()]
    return {"clean": clean, "corruptions": table, "mean_relative": float(np.mean(relatives)) if relatives else None}


def corrupted(dataset: Any, corruption: str, severity: Severity, seed: int) -> Any:
    """The dataset with its images corrupted as they are read; see [`corrupt`]."""
    from datasets import Image

    return dataset.cast_column("image", Image()).with_transform(_Corrupting(corruption, severity, seed))


# An object and not a function within one: HF datasets hashes what a function can reach, which takes seconds.
@dataclass(frozen=True)
class _Corrupting:
    corruption: str
    severity: Severity
    seed: int

    def __call__(self, rows: dict[str, list]) -> dict[str, list]:
        if "image" not in rows:
            return rows
        return {**rows, "image": [self._worse(*row) for row in zip(rows["image"], rows["id"], strict=True)]}

    def _worse(self, image: Any, name: str) -> np.ndarray:
        pixels = np.array(to_rgb8(image))
        return corrupt(pixels, self.corruption, self.severity, seed_of(self.seed, self.corruption, str(name)))


def metrics_of(evaluation: Evaluation) -> dict[str, float]:
    """Dice and IoU in both families, and the number of images."""
    summary = evaluation.summary()
    return {name: summary[name] for name in (*METRICS, "images")}


def relative_to(clean: Mapping[str, float], scores: dict[str, float]) -> dict[str, float]:
    return {**scores, "relative": scores["dice_per_image"] / clean["dice_per_image"]}


__all__ = ["corrupted", "corruption_table", "measure_robustness", "metrics_of"]
