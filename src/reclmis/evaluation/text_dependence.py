"""How much of a score a model owes to the note: the same images under other notes."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..data.masks import read_mask
from ..notes import mirror_note
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

    and, where the dataset has distractors (the synthetic set), the note of what the mask leaves out: `distractor`,
    scored against the distractors' own mask, and `distractor_against_right`, the same answers against the true mask.
    `notes_changed` counts the notes that differ from the right ones: no swap is safe for some, and a note that fills
    more than half of a set cannot move away from itself everywhere.
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
    for name in ("shuffled", "swapped"):
        table[name]["notes_changed"] = sum(a != b for a, b in zip(notes, variants[name], strict=True))
    if "distractor_note" in dataset.column_names:
        table |= _distractor(model, processor, dataset, batch_size)
    return table


def shuffled_notes(notes: Sequence[str], seed: int) -> list[str]:
    """Every note moved to another sample, and where possible to one whose own note differs.

    Equal notes side by side, in an order drawn from the seed, then rotated by the largest group of them: each sample
    gets a different note whenever no note fills more than half of the set.
    """
    draw = np.random.default_rng(seed)
    place = {note: draw.random() for note in sorted(set(notes))}
    order = sorted(draw.permutation(len(notes)), key=lambda index: place[notes[index]])
    largest = max(Counter(notes).values(), default=0)
    moved = [""] * len(notes)
    for position, index in enumerate(order):
        moved[index] = notes[order[(position + largest) % len(order)]]
    return moved


def _distractor(model: Any, processor: Any, dataset: Any, batch_size: int) -> dict[str, dict[str, float]]:
    asked, right = SegmentationMeter(), SegmentationMeter()
    notes, truths = list(dataset["distractor_note"]), dataset.select_columns(["distractor_mask"])
    for samples, masks in predicted_masks(model, processor, dataset, notes, batch_size=batch_size):
        masks, ids = [mask.cpu() for mask in masks], [sample["id"] for sample in samples]
        rows = range(len(asked), len(asked) + len(samples))
        asked.update(masks, [read_mask(truths[row]["distractor_mask"]) for row in rows], ids)
        right.update(masks, [sample["mask"] for sample in samples], ids)
    return {"distractor": asked.compute(), "distractor_against_right": right.compute()}
