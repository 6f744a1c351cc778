"""Large images as overlapping squares: where they lie, and what each has to say where they overlap."""

import math

import torch

Box = tuple[int, int, int, int]


def check_tiling(tile: int | None, overlap: float) -> None:
    """Raises:
    ValueError: `tile` is no side of a square, or `overlap` no share of it.
    """
    if tile is not None and tile < 1:
        raise ValueError(f"`tile` is the side of a square in pixels, at least 1, got {tile}.")
    if not 0 <= overlap < 1:
        raise ValueError(f"`overlap` is a share of a tile, from 0 to below 1, got {overlap}.")


def tiles_of(height: int, width: int, tile: int, overlap: float) -> list[Box]:
    """The fewest squares that cover an image evenly and overlap by at least that share of a side, row by row, as boxes
    (left, top, right, bottom). Where the image is smaller than a square, the box ends with it."""
    return [
        (left, top, left + columns, top + rows)
        for top, rows in _cuts(height, tile, overlap)
        for left, columns in _cuts(width, tile, overlap)
    ]


def _cuts(side: int, tile: int, overlap: float) -> list[tuple[int, int]]:
    """Starts and lengths."""
    if side <= tile:
        return [(0, side)]
    steps = math.ceil((side - tile) / max(math.floor(tile * (1 - overlap)), 1))
    return [(round(step * (side - tile) / steps), tile) for step in range(steps + 1)]


def tile_weight(height: int, width: int) -> torch.Tensor:
    """A tile's say `[H, W]` in an average: greatest in its middle, and above zero at its border."""

    def slope(side: int) -> torch.Tensor:
        place = torch.arange(1, side + 1, dtype=torch.float64)
        return torch.minimum(place, side + 1 - place)

    return slope(height)[:, None] * slope(width)[None]


__all__ = ["Box", "check_tiling", "tile_weight", "tiles_of"]
