"""What a model answers when the note says nothing true of the image, or when there is no note."""

from itertools import tee
from typing import Any

import numpy as np

from ..data.collate import ABSENT, decode_sample
from ..data.masks import read_mask
from ..notes import Orientation, contradicting_note
from ..notes.contradiction import NotePool
from ..prediction import predict
from .metrics import SegmentationMeter

DENIAL = "No pulmonary infection."


def absence(
    model: Any, processor: Any, dataset: Any, *, seed: int = 0, batch_size: int = 16, orientation: Orientation = "image"
) -> dict[str, dict[str, float]]:
    """Answers of one model on one split to several kinds of notes:

    - `right`: each image's own note, scored against its mask,
    - `none`: no note, scored likewise; only for a model with a null note,
    - `contradicting`: places where the image shows nothing, scored against an empty mask: the dataset's `absent_note`, or
      what [`contradicting_note`] writes,
    - `elsewhere`: another image's own note that names only places where this image shows nothing, scored likewise, for the
      images that have such a one: unlike a contradicting note it was not written for the purpose, so nothing but the image
      tells that it is false. Not for datasets with `absent_note`, whose masks show part of what there is to see.
    - `denial`: one sentence that denies any finding, scored likewise.

    Per kind the metrics of [`SegmentationMeter`] (two empty masks agree: 1), `empty` the share of empty masks, `marked` the
    mean share of the image in the mask and, for a model that judges it, `presence`, the mean probability. `contradicting`
    and `elsewhere` have `presence_auc` then: how often a right note's probability is above theirs, ties counted half.

    Args:
        seed: of the contradicting notes that are written.
        orientation: whose left the notes mean.
    """
    notes: dict[str, list[str | None]] = {"right": list(dataset["note"])}
    if model.config.note_dropout:
        notes["none"] = [None] * len(dataset)
    notes["contradicting"] = contradicting_notes(dataset, seed, orientation)
    if ABSENT not in dataset.column_names and any(others := notes_of_others(dataset, seed, orientation)):
        notes["elsewhere"] = others
    notes["denial"] = [DENIAL] * len(dataset)
    table: dict[str, dict[str, float]] = {}
    presences: dict[str, list[float]] = {}
    for kind, asked in notes.items():
        meter, marked = SegmentationMeter(model.config.num_labels), []
        presences[kind] = []
        places = [place for place, note in enumerate(asked) if note is not None or kind == "none"]
        samples, pictures = tee(decode_sample(row, model.config.num_labels) for row in dataset.select(places))
        requests = ((sample["image"], asked[place]) for sample, place in zip(pictures, places, strict=True))
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
        for kind in {"contradicting", "elsewhere"} & set(table):
            table[kind]["presence_auc"] = _above(presences["right"], presences[kind])
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


def notes_of_others(dataset: Any, seed: int, orientation: Orientation) -> list[str | None]:
    """For every row the note of another one that names only places where its mask is empty; `None` where there is none."""
    notes = list(dataset["note"])
    pool = NotePool(notes)
    found: list[str | None] = []
    for index, row in enumerate(dataset.select_columns(["mask"])):
        free = set(pool.all_false_of(read_mask(row["mask"]), orientation=orientation))
        others = [note for note in notes if note in free]
        draw = np.random.default_rng([seed, index])
        found.append(others[int(draw.integers(len(others)))] if others else None)
    return found


def _above(first: list[float], second: list[float]) -> float:
    """The share of pairs in which the first is larger; the area under the ROC curve."""
    differences = np.subtract.outer(first, second)
    return float((differences > 0).mean() + (differences == 0).mean() / 2)
