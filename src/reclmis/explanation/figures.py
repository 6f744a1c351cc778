"""Figures of an explanation, and the overview of it all.

They are matplotlib `Figure`s without pyplot's state: show or save them, and forget them; several threads may draw at once.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..visualization import COLOURS
from .curves import deletion_insertion_curves, randomisation_curves
from .drawing import (
    GREY,
    HEAT,
    OUTLINE,
    Box,
    axes_at,
    laid_out,
    lines_height,
    panel,
    say,
    show_heat,
    show_picture,
    write_words,
)
from .editing import note_panel
from .layout import COLUMNS, MARGIN, TITLE, WIDTH, Block, box_of, down_of, stacked
from .maps import Explanation
from .verdicts import check_truth, dice, draw_verdicts, marked

_WORD = 13.0
# Before what a word's removal changes.
_CHANGE = "Δ"
_MUCH = 0.25
_MOST = tuple(channel / 255 for channel in COLOURS[0])


def overview(
    explanation: Explanation,
    cam: np.ndarray | None = None,
    truth: np.ndarray | None = None,
    removal: Sequence[tuple[str, float]] | None = None,
) -> Any:
    """All of an explanation: the note in the shade of its words' weights, the mask, and the maps behind it.

    Every map goes from its own least to its own greatest value, under the outline of the mask.

    Args:
        explanation: of [`reclmis.explanation.explain`].
        cam: of [`reclmis.explanation.grad_cam`].
        truth: class indices `[H, W]` at the image's size: found pixels green, missed red, too much blue.
        removal: of [`reclmis.explanation.word_removal`]; how much of the mask each word decides, beside what it weighs.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        MissingPackageError: `pip install reclmis[explain]` is due.
        ValueError: a truth of another size, or other words that were removed.
    """
    return stacked([overview_block(explanation, cam, truth, removal)])


def overview_block(
    explanation: Explanation,
    cam: np.ndarray | None = None,
    truth: np.ndarray | None = None,
    removal: Sequence[tuple[str, float]] | None = None,
) -> Block:
    """[`overview`] as a block."""
    image = explanation.image
    check_truth(truth, image)
    down = down_of(image)
    below = _below(explanation, removal)
    lines = len(laid_out(explanation.words, (WIDTH - 2 * MARGIN) * 72, _WORD, below))
    note = 0.66 + lines_height(lines, _WORD, below)
    rows = [note + TITLE, note + 2 * TITLE + down + 0.16]

    def draw(figure: Any, top: float) -> None:
        _draw_note(figure, top, note, explanation, below, removal)
        boxes = [box_of(column, top + row, down) for row in rows for column in range(COLUMNS)]
        _draw_image_and_mask(figure, boxes[:2], explanation, truth)
        _draw_maps(figure, boxes[2:6], explanation, cam)
        _draw_attention(figure, boxes[6:], explanation)
        _draw_key(figure, top + rows[1] + down + 0.16)
        if truth is not None:
            draw_verdicts(figure, MARGIN + 6.6, top + rows[1] + down + 0.16)

    return Block(rows[1] + down + 0.62, draw)


# What an overview consists of ----------------------------------------------------------------------------------------


def _draw_note(figure, top: float, height: float, explanation: Explanation, below, removal) -> None:
    total = figure.get_size_inches()[1]
    weights = explanation.word_interest
    figure.text(MARGIN / WIDTH, 1 - (top + 0.34) / total, "Note", fontsize=11, fontweight="bold")
    if explanation.note is None:
        remark = "none: the model was asked for all that it finds"
    elif weights is None:
        remark = "no loss of this model trains weights of words"
    else:
        rest = sum(weight for _, weight in explanation.left_out)
        tokens = _tokens_left_out(explanation)
        remark = f"the darker, the more a word weighs (W_woi); the remaining {rest:.0%} lie on {tokens}"
    if removal is not None:
        remark += f"; {_CHANGE}: how much of the mask changes without the word"
    figure.text((MARGIN + 0.5) / WIDTH, 1 - (top + 0.34) / total, remark, fontsize=8.5, color=GREY, parse_math=False)
    # Where special tokens have all of the weight, no word looks heavy.
    most = max((*(weights or ()), *(weight for _, weight in explanation.left_out)), default=0.0) or 1.0
    fills = None if weights is None else [_shade(weight / most) for weight in weights]
    box = (MARGIN, top + 0.46, WIDTH - 2 * MARGIN, height - 0.46)
    strong = None if removal is None else [change >= _MUCH for _, change in removal]
    write_words(figure, box, explanation.words, fills, size=_WORD, below=below, strong=strong)


def _below(explanation: Explanation, removal: Sequence[tuple[str, float]] | None) -> list[str] | None:
    """What stands under each word: its weight, and what its removal changes."""
    weights, changes = explanation.word_interest, None
    if removal is not None:
        if tuple(word for word, _ in removal) != explanation.words:
            raise ValueError(f"The words that were removed are not those of the note {explanation.note!r}.")
        changes = [f"{_CHANGE} {change:.0%}" for _, change in removal]
    if weights is None:
        return changes
    shares = [f"{weight:.0%}" for weight in weights]
    return shares if changes is None else [f"{share}\n{change}" for share, change in zip(shares, changes, strict=True)]


def _tokens_left_out(explanation: Explanation) -> str:
    names = list(dict.fromkeys(text for text, _ in explanation.left_out))
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") if names else "no token"


def _draw_image_and_mask(figure: Any, boxes: list[Box], explanation: Explanation, truth: np.ndarray | None) -> None:
    image, mask = explanation.image, explanation.mask
    show_picture(panel(figure, boxes[0], "Image", f"{image.height} x {image.width} pixels"), image)
    sure = "" if explanation.presence is None else f", present {explanation.presence:.2f}"
    if truth is None:
        axes = panel(figure, boxes[1], "Mask", f"{(mask > 0).mean():.1%} of the image{sure}")
    else:
        axes = panel(figure, boxes[1], "Mask against the truth", f"Dice {dice(mask, truth):.2f}{sure}")
    show_picture(axes, marked(image, mask, truth))


def _draw_maps(figure: Any, boxes: list[Box], explanation: Explanation, cam: np.ndarray | None) -> None:
    inside = explanation.mask > 0
    interest = explanation.patch_interest_at_image
    share = "" if interest is None else f": {interest[inside].sum():.0%} in the mask's {inside.mean():.0%} of the image"
    # Where all is cut off, black would look like a map.
    speaking = None if cam is None or not cam.any() else explanation.at_image(cam)
    maps = (
        ("Patches of interest", f"W_poi{share}", interest, "No loss of this model\ntrains patches of interest."),
        ("Grad-CAM", "first decoder layer, for the mask", speaking, _without_cam(inside, cam)),
        ("Before the note", "V, norm over channels", _at_image(explanation, explanation.visual), ""),
        ("After the note", "V', norm over channels", _at_image(explanation, explanation.interacted),
         "This model has no interaction:\nV' is V."),
    )  # fmt: skip
    for box, (title, remark, heat, excuse) in zip(boxes, maps, strict=True):
        axes = panel(figure, box, title, remark if heat is not None else "")
        if heat is None:
            say(axes, excuse)
        else:
            show_heat(axes, explanation.image, heat, explanation.mask)


def _without_cam(inside: np.ndarray, cam: np.ndarray | None) -> str:
    if not inside.any():
        return "Nothing is marked, so\nnothing speaks for a mask."
    return "Not computed." if cam is None else "Nothing in this layer\nspeaks for the mask."


def _draw_attention(figure: Any, boxes: list[Box], explanation: Explanation) -> None:
    chosen = weightiest(explanation)
    for place, box in enumerate(boxes):
        if explanation.word_attention is None or place >= len(chosen):
            axes = panel(figure, box, "Where words look")
            say(axes, "No further word." if explanation.word_attention is not None else "This model has no attention.")
            continue
        word = explanation.words[chosen[place]]
        rank = "" if explanation.word_interest is None else (", the weightiest", ", the second weightiest")[place]
        axes = panel(figure, box, f"Where “{word}” looks", f"attention of word {chosen[place] + 1}{rank}")
        heat = explanation.at_image(explanation.word_attention[chosen[place]])
        show_heat(axes, explanation.image, heat, explanation.mask)


def weightiest(explanation: Explanation, count: int = 2) -> list[int]:
    """Numbers of the words that weigh most, or without weights that patches listen to most; punctuation is no word."""
    weights: Any = explanation.word_interest
    if weights is None and explanation.patch_attention is not None:
        weights = explanation.patch_attention.sum(axis=(1, 2))
    if weights is None:
        return []
    lettered = [number for number, word in enumerate(explanation.words) if any(map(str.isalnum, word))]
    return sorted(lettered, key=lambda number: -weights[number])[:count]


def _draw_key(figure: Any, top: float) -> None:
    """What the colours of maps mean."""
    from matplotlib import colormaps

    bar = axes_at(figure, (MARGIN, top, 1.6, 0.13))
    bar.imshow(colormaps[HEAT](np.linspace(0, 1, 128))[None, :, :3], aspect="auto")
    bar.set_axis_off()
    beside = {
        "xycoords": "axes fraction",
        "textcoords": "offset points",
        "fontsize": 8.5,
        "color": GREY,
        "va": "center",
    }
    bar.annotate("least to most, each map for itself", (1, 0.5), (6, 0), **beside)
    line = axes_at(figure, (MARGIN + 4.3, top, 0.35, 0.13))
    line.plot([0, 1], [0, 0], color=OUTLINE, linewidth=2)
    line.set_axis_off()
    line.annotate("outline of the mask", (1, 0.5), (6, 0), **beside)


def _shade(share: float) -> tuple[float, ...]:
    """White to orange."""
    return tuple(1 - share * (1 - channel) for channel in _MOST)


def _at_image(explanation: Explanation, grid: np.ndarray | None) -> np.ndarray | None:
    return None if grid is None else explanation.at_image(grid)


__all__ = [
    "deletion_insertion_curves",
    "note_panel",
    "overview",
    "overview_block",
    "randomisation_curves",
    "weightiest",
]
