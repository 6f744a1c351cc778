"""How much of a score a model owes to the note: the same images under other notes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..data.masks import read_mask
from ..data.notes import mirror_note
from .metrics import SegmentationMeter
from .predictions import evaluate, predicted_masks

CONSTANT_NOTE = "Pulmonary infection."


def text_dependence(
    model: Any, processor: Any, dataset: Any, *, seed: int = 0, batch_size: int = 16
) -> dict[str, dict[str, float]]:
    """Metrics of one model on one split, scored against the true masks, under

    - `right`: each image's own note,
    - `empty`: no words,
    - `shuffled`: another image's note, one that says something else,
    - `swapped`: left and right exchanged,
    - `constant`: one sentence for all,

    and, where the dataset has distractors (the synthetic set), `distractor`: the note of what the mask leaves out, scored
    against the distractor's own mask.
    """
    notes = list(dataset["note"])
    variants = {
        "right": notes,
        "empty": [""] * len(notes),
        "shuffled": shuffled_notes(notes, seed),
        "swapped": [mirror_note(note) or note for note in notes],
        "constant": [CONSTANT_NOTE] * len(notes),
    }
    table = {
        name: evaluate(model, processor, dataset, variant, batch_size=batch_size) for name, variant in variants.items()
    }
    table["swapped"]["notes_changed"] = sum(a != b for a, b in zip(notes, variants["swapped"], strict=True))
    table["shuffled"]["notes_changed"] = sum(a != b for a, b in zip(notes, variants["shuffled"], strict=True))
    if "distractor_note" in dataset.column_names:
        table["distractor"] = _distractor(model, processor, dataset, batch_size)
    return table


def shuffled_notes(notes: Sequence[str], seed: int) -> list[str]:
    """Every note moved to another sample, and where possible to one whose own note differs.

    Sorting by content and rotating by the largest group of equal notes gives each sample a different note whenever no
    note fills more than half of the set.
    """
    draw = np.random.default_rng(seed)
    order = draw.permutation(len(notes))
    order = sorted(order, key=lambda index: notes[index])
    largest = max(list(notes).count(note) for note in set(notes)) if notes else 0
    moved = [""] * len(notes)
    for position, index in enumerate(order):
        moved[index] = notes[order[(position + largest) % len(order)]]
    return moved


def _distractor(model: Any, processor: Any, dataset: Any, batch_size: int) -> dict[str, float]:
    meter, row = SegmentationMeter(), 0
    notes = list(dataset["distractor_note"])
    for samples, masks in predicted_masks(model, processor, dataset, notes, batch_size=batch_size):
        truths = [read_mask(dataset[row + offset]["distractor_mask"]) for offset in range(len(samples))]
        row += len(samples)
        meter.update([mask.cpu() for mask in masks], truths, [sample["id"] for sample in samples])
    return meter.compute()
