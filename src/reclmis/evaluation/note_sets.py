"""The notes under which a certificate asks about the same images, row by row."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal
from zlib import crc32

from ..data.collate import ABSENT
from ..notes import Orientation, paraphrased, parse_note, side_swapped, with_typos, word_order_shuffled, zone_swapped
from .absence import contradicting_notes
from .text_dependence import CONSTANT_NOTE, shuffled_notes

DISTRACTORS = DISTRACTOR_NOTE, DISTRACTOR_MASK = ["distractor_note", "distractor_mask"]
# Draws of a wording that the model reads whole.
_ATTEMPTS = 24
# What an altered note says of the image: another place, the same, nothing that is there, or no place.
Claim = Literal["elsewhere", "same", "absent", "none", "distractor"]


@dataclass(frozen=True)
class NoteSet:
    """One way to ask about the images of a split.

    Attributes:
        name: of the row.
        what: the notes, in words.
        claim: what they say of the image, and so what an answer is held against.
        notes: by row number of the dataset, `None` being no note; rows whose note cannot be altered are not there.
        left_out: why they are not.
    """

    name: str
    what: str
    claim: Claim
    notes: dict[int, str | None]
    left_out: str = ""


def note_sets(
    dataset: Any,
    *,
    null_note: bool,
    num_labels: int = 1,
    seed: int = 0,
    orientation: Orientation = "image",
    fits: Callable[[str], bool] = lambda note: True,
) -> list[NoteSet]:
    """The rows of a certificate, the true notes first.

    Args:
        dataset: of HF datasets, with `image`, `mask`, `note` and `id`; `distractor_note` with `distractor_mask` and
            `absent_note` where it has them.
        null_note: the model has one; otherwise "no note" is the empty string.
        num_labels: classes of the masks; findings are read from binary ones only.
        seed: of what is random. A note's alteration depends on it, the note and the sample's id alone, a shuffled note also
            on the other notes.
        orientation: whose left the notes mean.
        fits: whether the model reads all of a note; of other words and misspellings, some that it does are chosen where
            there are any, as a cut would change what is said.
    """
    notes, ids = list(dataset["note"]), list(dataset["id"])
    seeds = [crc32(f"{seed}\0{name}".encode()) for name in ids]

    def altered(alteration: Callable[..., str | None], *, seeded: bool = False) -> dict[int, str | None]:
        made = (_fitting(alteration, note, seeds[row], fits) if seeded else alteration(note)
                for row, note in enumerate(notes))  # fmt: skip
        return {row: note for row, note in enumerate(made) if note is not None}

    nothing = None if null_note else ""
    shuffled = shuffled_notes(notes, seed)
    return [
        NoteSet("right", "the true note", "same", dict(enumerate(notes))),
        NoteSet("none", "no note: the learned null note" if null_note else "no note: the empty string, as there is no null "
                "note", "none", dict.fromkeys(range(len(notes)), nothing)),
        NoteSet("shuffled", "another image's note", "elsewhere",
                {row: note for row, note in enumerate(shuffled) if note != notes[row]},
                "no other image has another note left for them"),
        NoteSet("side_swapped", "left and right exchanged", "elsewhere", altered(side_swapped),
                "not understood, no side named, or both named alike"),
        NoteSet("zone_swapped", "upper and lower exchanged", "elsewhere", altered(zone_swapped),
                "not understood, or upper and lower not told apart"),
        *_of_distractors(dataset),
        _contradicting(dataset, notes, num_labels, seed, orientation),
        NoteSet("paraphrased", "the same finding in other words", "same", altered(paraphrased, seeded=True),
                "not understood completely"),
        NoteSet("typos", "two words misspelt", "same", altered(with_typos, seeded=True),
                "no word can be misspelt and still be read"),
        NoteSet("word_order", "the same words in another order", "none", altered(word_order_shuffled, seeded=True),
                "fewer than two different words"),
        NoteSet("constant", f"one note for all: {CONSTANT_NOTE!r}", "none",
                {row: CONSTANT_NOTE for row, note in enumerate(notes) if note != CONSTANT_NOTE}, "it is the true note"),
    ]  # fmt: skip


def _fitting(
    alteration: Callable[[str, int], str | None], note: str, seed: int, fits: Callable[[str], bool]
) -> str | None:
    """The first of several that fits, or the first where none does."""
    made = [alteration(note, seed)]
    while made[0] is not None and not fits(made[-1] or "") and len(made) < _ATTEMPTS:
        made.append(alteration(note, seed + len(made)))
    return made[-1] if made[-1] is not None and fits(made[-1]) else made[0]


def _of_distractors(dataset: Any) -> list[NoteSet]:
    if not set(DISTRACTORS) <= set(dataset.column_names):
        return []
    notes = dict(enumerate(dataset[DISTRACTOR_NOTE]))
    return [NoteSet("distractor", "the findings of the same image that the true note leaves out", "distractor", notes)]


def _contradicting(dataset: Any, notes: list[str], num_labels: int, seed: int, orientation: Orientation) -> NoteSet:
    readable = ABSENT in dataset.column_names or num_labels == 1
    understood = [row for row, note in enumerate(notes) if readable and parse_note(note).finding is not None]
    # Of a set that is not about lungs no mask is read.
    made = contradicting_notes(dataset, seed, orientation) if understood else []
    return NoteSet("contradicting", "places where the image shows nothing", "absent",
                   {row: made[row] for row in understood}, "not understood, or masks of several classes")  # fmt: skip


__all__ = ["DISTRACTORS", "DISTRACTOR_MASK", "DISTRACTOR_NOTE", "Claim", "NoteSet", "note_sets"]
