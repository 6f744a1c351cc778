"""What figures are drawn with: pictures, heat over an image, words in colour. No state of pyplot's, no window."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from ..errors import MissingPackageError
from ..visualization import COLOURS

# Of matplotlib: dark is little, yellow much, in print and for the colour-blind too.
HEAT = "inferno"
OUTLINE = tuple(channel / 255 for channel in COLOURS[5])
GREY = "0.35"
_LINE = 1.65
# Of texts under words: size and distance of their lines, in points.
_SMALL, _BELOW = 7.5, 9.0
# Left, top, width and height in inches, from a figure's top left.
Box = tuple[float, float, float, float]


def new_figure(width: float, height: float) -> Any:
    """A matplotlib `Figure` of so many inches.

    Raises:
        MissingPackageError: `pip install reclmis[explain]` is due.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=130, facecolor="white")


def require_matplotlib() -> None:
    """Raises MissingPackageError where matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingPackageError("Figures need matplotlib: `pip install reclmis[explain]` brings it.") from error


def axes_at(figure: Any, box: Box) -> Any:
    """Axes in a box."""
    width, height = figure.get_size_inches()
    left, top, across, down = box
    return figure.add_axes((left / width, 1 - (top + down) / height, across / width, down / height))


def panel(figure: Any, box: Box, title: str, remark: str = "") -> Any:
    """Axes without ticks, and above them, outside the box, a title and a smaller remark."""
    axes = axes_at(figure, box)
    axes.set_xticks([])
    axes.set_yticks([])
    # Pictures of another shape than the box lie at its top left, below their title.
    axes.set_anchor("NW")
    place = axes.get_position(original=True)
    above = {"xycoords": figure.transFigure, "textcoords": "offset points", "parse_math": False}
    axes.annotate(title, (place.x0, place.y1), (0, 17), fontsize=11, fontweight="bold", **above)
    axes.annotate(remark, (place.x0, place.y1), (0, 4.5), fontsize=8.5, color=GREY, **above)
    return axes


def show_picture(axes: Any, picture: Image.Image) -> None:
    # Small images are enlarged as they are: a smooth mask would show what nobody computed.
    axes.imshow(np.asarray(picture), interpolation="nearest")


def show_heat(axes: Any, image: Image.Image, heat: np.ndarray, mask: np.ndarray | None = None) -> None:
    """A map over the grey image, from its least to its greatest value, with the mask's outline.

    Args:
        heat: `[H, W]` of the image's size.
        mask: `[H, W]`, whatever is not 0 is inside.
    """
    from matplotlib import colormaps

    span = float(np.ptp(heat))
    level = (heat - heat.min()) / span if span else np.zeros_like(heat)
    grey = np.asarray(image.convert("L"), dtype=np.float32)[..., None] / 255
    axes.imshow(np.clip(0.35 * grey + 0.65 * colormaps[HEAT](level)[..., :3], 0, 1), interpolation="bilinear")
    outline(axes, mask)


def outline(axes: Any, mask: np.ndarray | None) -> None:
    if mask is not None and (inside := mask > 0).any() and not inside.all():
        axes.contour(inside.astype(float), levels=[0.5], colors=[OUTLINE], linewidths=1.4)


def say(axes: Any, sentence: str) -> None:
    """A sentence in place of a picture."""
    axes.set_facecolor("0.95")
    axes.text(0.5, 0.5, sentence, transform=axes.transAxes, ha="center", va="center", fontsize=9, color=GREY, wrap=True)


def write_words(
    figure: Any,
    box: Box,
    words: Sequence[str],
    fills: Sequence[Any] | None = None,
    colours: Sequence[Any] | None = None,
    size: float = 12,
    below: Sequence[str] | None = None,
    strong: Sequence[bool] | None = None,
) -> int:
    """Writes words in lines, each on a fill of its own, and returns the number of lines.

    Args:
        box: as wide as lines may be.
        fills: a colour behind each word, `None` for none.
        colours: of the words; by default black or white, whatever is read more easily on the fill.
        size: in points.
        below: a small text under each word, all of as many lines.
        strong: which of these shall catch the eye.
    """
    from matplotlib.colors import to_rgb

    axes = axes_at(figure, box)
    axes.set_axis_off()
    width, height = box[2] * 72, box[3] * 72
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    under = _BELOW * _rows(below)
    lines = laid_out(words, width, size, below)
    for number, line in enumerate(lines):
        baseline = size * 1.15 + number * (size * _LINE + under)
        for index, start in line:
            fill = None if fills is None else fills[index]
            dark = fill is not None and np.dot(to_rgb(fill), (0.299, 0.587, 0.114)) < 0.55
            style = None if fill is None else {"facecolor": fill, "edgecolor": "none", "boxstyle": "round,pad=0.18"}
            colour = colours[index] if colours is not None else ("white" if dark else "black")
            axes.text(start, baseline, words[index], fontsize=size, color=colour, bbox=style, parse_math=False,
                      va="baseline")  # fmt: skip
            if below is not None:
                centre = start + text_width(words[index], size) / 2
                bold = strong is not None and strong[index]
                look = {"color": "black", "fontweight": "bold"} if bold else {"color": GREY}
                axes.text(centre, baseline + size * 0.45, below[index], fontsize=_SMALL, ha="center", va="top",
                          linespacing=1.15, **look)  # fmt: skip
    return len(lines)


def laid_out(
    words: Sequence[str], width: float, size: float, below: Sequence[str] | None = None
) -> list[list[tuple[int, float]]]:
    """Lines of word numbers and where each starts, in points.

    Args:
        width: of a line, in points.
        size: of the letters, in points.
        below: what stands under each word, and may not touch what stands under the next.

    Punctuation follows its word closely, and starts no line.
    """
    least = max((text_width(part, _SMALL) + 5 for text in below or () for part in text.split("\n")), default=0.0)
    lines: list[list[tuple[int, float]]] = [[]]
    pad, middle, end = 0.18 * size, 0.0, 0.0
    for index, word in enumerate(words):
        long, mark = text_width(word, size), not any(map(str.isalnum, word))
        start = max(end + size * (0.3 if mark else 0.62), middle + least - long / 2) if lines[-1] else pad
        if lines[-1] and not mark and start + long + pad > width:
            lines.append([])
            start = pad
        lines[-1].append((index, start))
        middle, end = start + long / 2, start + long
    return lines


def lines_height(lines: int, size: float, below: Sequence[str] | None = None) -> float:
    """Inches that so many lines of [`write_words`] take."""
    return (lines * (size * _LINE + _BELOW * _rows(below)) + 0.3 * size) / 72


def _rows(below: Sequence[str] | None) -> int:
    return max((text.count("\n") + 1 for text in below or ()), default=0)


def text_width(text: str, size: float) -> float:
    """Of a word, in points."""
    require_matplotlib()
    from matplotlib.textpath import TextPath

    # A dollar sign would start a formula.
    return float(TextPath((0, 0), text.replace("$", r"\$"), size=size).get_extents().width)


__all__ = [
    "GREY",
    "HEAT",
    "OUTLINE",
    "Box",
    "axes_at",
    "laid_out",
    "lines_height",
    "new_figure",
    "outline",
    "panel",
    "require_matplotlib",
    "say",
    "show_heat",
    "show_picture",
    "text_width",
    "write_words",
]
