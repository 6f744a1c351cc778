"""How figures are laid out: blocks of one width, one below the other, in columns of panels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from .drawing import Box, new_figure

# In inches.
WIDTH, MARGIN, GAP, TITLE = 11.6, 0.3, 0.22, 0.46
COLUMNS = 4
ACROSS = (WIDTH - 2 * MARGIN - (COLUMNS - 1) * GAP) / COLUMNS


@dataclass(frozen=True)
class Block:
    """A part of a figure, as wide as the figure: its height in inches, and what draws it below `top`."""

    height: float
    draw: Callable[[Any, float], None]


def stacked(blocks: Sequence[Block]) -> Any:
    """One figure of blocks, from top to bottom."""
    figure = new_figure(WIDTH, sum(block.height for block in blocks))
    top = 0.0
    for block in blocks:
        block.draw(figure, top)
        top += block.height
    return figure


def box_of(column: int, top: float, down: float) -> Box:
    """A panel's box in one of the columns."""
    return (MARGIN + column * (ACROSS + GAP), top, ACROSS, down)


def down_of(image: Image.Image) -> float:
    """A panel's height in inches, such that a picture of the image fills its column where that is no tower or ribbon."""
    return ACROSS * min(max(image.height / image.width, 0.4), 2.0)


__all__ = ["ACROSS", "COLUMNS", "GAP", "MARGIN", "TITLE", "WIDTH", "Block", "box_of", "down_of", "stacked"]
