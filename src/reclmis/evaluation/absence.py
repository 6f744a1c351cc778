"""What a model answers when the note says nothing true of the image, or when there is no note."""

from itertools import tee
from typing import Any

import numpy as np

from ..data.collate import ABSENT, decode_sample
from ..data.masks import read_mask
from ..notes import Orientation, contradicting_note
from ..prediction import predict
from .metrics import SegmentationMeter

DENIAL = "No pulmonary infection."


def absence(
    model: Any, processor: Any, dataset: Any, *, seed: int = 0, batch_size: int = 16, orientation: Orientation = "image"
) -> dict[str, dict[str, float]]:
    """Answers of one model on one split to four kinds of notes:

    - `right`: each image's own note, scored against its mask,
    - `none`: no note, scored likewise; only for a model with a null note,
    - `contradicting`: places where the image shows nothing, scored against an empty mask: the dataset's `absent_note`, or
      what [`contradicting_note`] writes,
    - `denial`: one sentence that denies any finding, scored likewise.

    Per kind the metrics of [`SegmentationMeter`] (two empty masks agree: 1), `empty` the share of empty masks, `marked` the
    mean share of the image in the mask and, for a model that judges it, `presence`, the mean probability. `contradicting`
    has `presence_auc` then: how often a right note's probability is above a contradicting one's, ties counted half.

    Args:
        seed: of the contradicting notes that are written.
        orientation: whose left the notes mean.
    """
    notes: dict[str, list[str | None]] = {"right": list(dataset["note"])}
    if model.config.note_dropout:
        notes["none"] = [None] * len(dataset)
    notes["contradicting"] = contradicting_notes(dataset, seed, orientation)
    notes["denial"] = [DENIAL] * len(dataset)
    table: dict[str, dict[str, float]] = {}
    presences: dict[str, list[float]] = {}
    for kind, asked in notes.items():
        meter, marked = SegmentationMeter(model.config.num_labels), []
        presences[kind] = []
        samples, pictures = tee(decode_sample(row, model.config.num_labels) for row in dataset)
        requests = ((sample["image"], note) for sample, note in zip(pictures, asked, strict=True))
        answers = predict(model, processor, requests, batch_size=batch_size)
        for sample, answer in zip(samples, answers, strict=True):
            truth = sample["mask"] if kind in ("right", "none") else np.zeros_like(sample["mask"])
            meter.update([answer.mask], [truth], [sample["id"]])
            marked.append(float((answer.mask > 0).mean()))
            if answer.presence is not None:
                presences[kind].append(answer.presence)
        table[kind] = {**meter.compute(), "empty": float(np.mean([share == 0 for share in marked])),
                       "marked": float(np.mean(marked))}  # fmt: skip
        if model.config.presence:
            table[kind]["presence"] = float(np.mean(presences[kind]))
    if model.config.presence:
        table["contradicting"]["presence_auc"] = _above(presences["right"], presences["contradicting"])
    return table


def contradicting_notes(dataset: Any, seed: int, orientation: Orientation) -> list[str | None]:
    """For every row a note of which the image shows nothing: the dataset's `absent_note`, or what [`contradicting_note`]
    writes, taking it that the mask shows all of the finding."""
    if ABSENT in dataset.column_names:
        return list(dataset[ABSENT])
    rows = dataset.select_columns(["mask", "note"])
    return [
        contradicting_note(
            read_mask(row["mask"]),
            np.random.default_rng([seed, index]),
            orientation=orientation,
            denial=0.0,
            like=row["note"],
        )
        for index, row in enumerate(rows)
    ]


def _above(first: list[float], second: list[float]) -> float:
    """The share of pairs in which the first is larger; the area under the ROC curve."""
    differences = np.subtract.outer(first, second)
    return float((differences > 0).mean() + (differences == 0).mean() / 2)
