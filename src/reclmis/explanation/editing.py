"""One image under several notes (paper Figure 14)."""

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any

import numpy as np

from ..images import to_rgb8
from ..prediction import Prediction, predict
from ..visualization import COLOURS
from .borrowing import evaluating
from .drawing import laid_out, lines_height, panel, show_picture, write_words
from .layout import ACROSS, COLUMNS, MARGIN, WIDTH, Block, box_of, down_of, stacked
from .verdicts import check_truth, dice, draw_verdicts, marked

_WORD = 9.5
_CHANGED = tuple(channel / 255 for channel in COLOURS[0])


def note_panel(
    model: Any,
    processor: Any,
    image: Any,
    notes: Sequence[str | None],
    truth: np.ndarray | None = None,
    *,
    threshold: float = 0.5,
) -> Any:
    """One image under several notes, a column each (paper Figure 14). Words that differ from the first note are orange.

    Args:
        model: a [`RecLMISModel`], pruned or not, which stays in the mode that it is in; or an exported one.
        processor: its processor.
        image: path, PIL image, array or tensor.
        notes: what to ask; `None` is no note, for a model with a null note.
        truth: class indices `[H, W]` at the image's size, of what the first note means: every mask is held against it.
        threshold: of the foreground probability, for binary models.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        MissingPackageError: `pip install reclmis[explain]` is due.
        ValueError: no notes, an empty one, or a truth of another size.
    """
    return stacked([note_block(model, processor, image, notes, truth, threshold=threshold)])


def note_block(
    model: Any,
    processor: Any,
    image: Any,
    notes: Sequence[str | None],
    truth: np.ndarray | None = None,
    *,
    threshold: float = 0.5,
) -> Block:
    """[`note_panel`] as a block."""
    if not notes:
        raise ValueError("Give at least one note.")
    picture = to_rgb8(image)
    check_truth(truth, picture)
    with evaluating(model):
        answers = list(predict(model, processor, [(picture, note) for note in notes], threshold=threshold))
    words = [["(no note)"] if note is None else note.split() for note in notes]
    lines = max(len(laid_out(each, ACROSS * 72, _WORD)) for each in words)
    text = lines_height(lines, _WORD)
    down = down_of(picture)
    row, rows = 0.3 + text + 0.32 + down + 0.2, -(-len(notes) // COLUMNS)

    def draw(figure: Any, top: float) -> None:
        for number, (answer, note_words) in enumerate(zip(answers, words, strict=True)):
            start = top + 0.1 + number // COLUMNS * row
            left, _, across, _ = box_of(number % COLUMNS, 0, 0)
            said = "The note" if number == 0 else f"Edited note {number}"
            figure.text(
                left / WIDTH, 1 - (start + 0.16) / figure.get_size_inches()[1], said, fontsize=11, fontweight="bold"
            )
            write_words(figure, (left, start + 0.24, across, text), note_words,
                        colours=_changed(note_words, words[0]), size=_WORD)  # fmt: skip
            axes = panel(figure, box_of(number % COLUMNS, start + 0.3 + text + 0.26, down), "", _verdict(answer, truth))
            show_picture(axes, marked(picture, answer.mask, truth))
        if truth is not None:
            draw_verdicts(figure, MARGIN, top + row * rows + 0.1, "against the truth of the first note")

    return Block(row * rows + (0.35 if truth is not None else 0.15), draw)


def _verdict(answer: Prediction, truth: np.ndarray | None) -> str:
    parts = [f"{(answer.mask > 0).mean():.1%} marked"]
    if truth is not None:
        parts.append(f"Dice {dice(answer.mask, truth):.2f}")
    if answer.presence is not None:
        parts.append(f"present {answer.presence:.2f}")
    return ", ".join(parts)


def _changed(words: list[str], first: list[str]) -> list[Any]:
    """Orange for words that differ from the first note's."""
    plain, before = ([word.strip(".,;:!?").lower() for word in each] for each in (words, first))
    same = SequenceMatcher(None, before, plain, autojunk=False).get_matching_blocks()
    kept = {place for match in same for place in range(match.b, match.b + match.size)}
    return ["black" if place in kept else _CHANGED for place in range(len(words))]


__all__ = ["note_block", "note_panel"]
