"""The drawing behind the synthetic set: a frontal chest radiograph, from soft shapes added up.

Lengths are shares of the image's side, rows count downwards, brightness is 0 to 1. What depends on the row or the
column alone is kept as a column `[size, 1]` or a row `[1, size]`, so that whole images are rarely touched.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .notes import SIDES, Zone

# Where in a lung, from apex to diaphragm, the middle of a zone lies.
_HEIGHT = {"upper": 0.27, "middle": 0.54, "lower": 0.80}
_EDGE = 0.014
_VISIBLE = 0.35


@dataclass(frozen=True)
class _Grid:
    size: int
    rows: np.ndarray
    columns: np.ndarray
    # Bilinear interpolation from so many knots to all pixels.
    from_knots: dict[int, np.ndarray]


@lru_cache(maxsize=8)
def _grid(size: int) -> _Grid:
    places = np.linspace(0, 1, size, dtype=np.float32)
    hats = {
        knots: np.maximum(0, 1 - np.abs(places[:, None] * (knots - 1) - np.arange(knots, dtype=np.float32)))
        for knots in (6, 20)
    }
    return _Grid(size, places[:, None], places[None, :], hats)


def draw_radiograph(zones: list[Zone], size: int, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A radiograph with one opacity in each zone.

    Args:
        zones: distinct `(side, height)`.
        size: side in pixels.
        draw: source of chance. What is where does not depend on the size, only the grain does.

    Returns:
        Pixels uint8 `[size, size]`, and int8 `[size, size]`: which zone's opacity a pixel belongs to, by its place in
        `zones`, -1 for none.
    """
    grid = _grid(size)
    lungs = {side: _Lung(side, draw) for side in SIDES}
    inside = {side: lung.inside(grid) for side, lung in lungs.items()}
    image = _chest(grid, inside, draw)
    density = np.zeros((size, size), np.float32)
    owner = np.full((size, size), -1, np.int8)
    for number, (side, height) in enumerate(zones):
        window, opacity = _opacity(grid, lungs[side].point(height, draw), draw)
        opacity *= inside[side][window]
        owner[window][(opacity > _VISIBLE) & (opacity > density[window])] = number
        np.maximum(density[window], opacity, out=density[window])
    cloudy = 0.85 + 0.25 * _clouds(grid, 20, draw)
    image += 0.40 * density * cloudy * (1 - image)
    image += np.float32(draw.uniform(0.012, 0.022)) * draw.standard_normal(image.shape, dtype=np.float32)
    return (np.clip(image, 0, 1) * 255).astype(np.uint8), owner


class _Lung:
    """One lung: an apex that widens to the side wall, a medial edge with the heart's bulge, a domed diaphragm."""

    def __init__(self, side: str, draw: np.random.Generator) -> None:
        self.outward = -1.0 if side == "left" else 1.0
        self.top, self.bottom = draw.uniform(0.10, 0.14), draw.uniform(0.76, 0.82)
        self.medial, self.lateral = draw.uniform(0.055, 0.075), draw.uniform(0.36, 0.41)
        # The heart lies on the right of the image.
        self.bulge = draw.uniform(0.02, 0.035) if side == "left" else draw.uniform(0.07, 0.11)
        self.dome = draw.uniform(0.05, 0.08)

    def edges(self, rows):
        """Distance of the medial and the lateral edge from the midline, at these rows."""
        along = np.clip((rows - self.top) / (self.bottom - self.top), 0, 1)
        opening = np.sqrt(1 - (1 - np.minimum(along / 0.75, 1)) ** 2)
        medial = self.medial + 0.06 * (1 - opening) + self.bulge * _bump(along - 0.85, 0.28)
        return medial, 0.12 + (self.lateral - 0.12) * opening

    def inside(self, grid: _Grid) -> np.ndarray:
        """1 within, 0 outside, soft at the edge."""
        out = self.outward * (grid.columns - 0.5)
        medial, lateral = self.edges(grid.rows)
        axis = 0.5 * (medial + lateral)[np.argmax(lateral - medial)]
        diaphragm = self.bottom - self.dome + 2.2 * self.dome * np.clip((out - axis) / 0.2, -0.8, 1.2) ** 2
        sideways = np.minimum(out - medial, lateral - out)
        upright = np.minimum(diaphragm - grid.rows, grid.rows - self.top)
        return np.clip(np.minimum(sideways, upright) / _EDGE, 0, 1)

    def point(self, height: str, draw: np.random.Generator) -> tuple[float, float]:
        """Row and column of a point in a zone, near the lung's axis."""
        row = self.top + (self.bottom - self.top) * (_HEIGHT[height] + draw.uniform(-0.04, 0.04))
        medial, lateral = self.edges(row)
        share = draw.uniform(0.38, 0.62)
        return row, 0.5 + self.outward * (medial + share * (lateral - medial))


def _chest(grid: _Grid, inside: dict[str, np.ndarray], draw: np.random.Generator) -> np.ndarray:
    """A healthy radiograph without grain."""
    rows, columns = grid.rows, grid.columns
    off_centre = np.abs(columns - 0.5)
    shoulder = draw.uniform(0.02, 0.06)
    half_width = 0.13 + draw.uniform(0.33, 0.36) / (1 + np.exp(-(rows - shoulder) / 0.025))
    body = np.clip((half_width - off_centre) / 0.05, 0, 1)
    air = np.maximum(inside["left"], inside["right"])

    tissue = 0.50 + 0.16 * _bump(off_centre, 0.10) + 0.10 * rows
    spine = 0.05 * np.cos(2 * np.pi * rows / draw.uniform(0.045, 0.055)) * _bump(off_centre, 0.035)
    heart = 0.16 * _bump(rows - 0.64, 0.14) * _bump(columns - draw.uniform(0.54, 0.57), 0.11)
    hila = _bump(rows - 0.45, 0.09) * _bump(off_centre - 0.11, 0.05)
    image = tissue + spine + heart
    image -= draw.uniform(0.34, 0.42) * air
    image += draw.uniform(0.06, 0.12) * hila
    image += (0.03 + 0.03 * air) * _bones(grid, off_centre, draw)
    image += 0.035 * _clouds(grid, 6, draw) + 0.03 * _clouds(grid, 20, draw)
    image *= draw.uniform(0.90, 1.15)
    return np.clip(image, 0.02, 0.97) * body + 0.03


def _bones(grid: _Grid, off_centre: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Ribs, bright bands that fall from the spine to the sides, and clavicles above them."""
    pitch, phase = draw.uniform(0.085, 0.105), draw.uniform(0, 1)
    arch = grid.rows - 1.1 * (off_centre - 0.16) ** 2
    bands = np.maximum(np.cos((2 * np.pi / pitch) * arch + 2 * np.pi * phase), 0) ** 2
    chest = np.clip((0.82 - grid.rows) / 0.1, 0, 1) * np.clip((grid.rows - 0.08) / 0.04, 0, 1)
    clavicle = draw.uniform(0.13, 0.17) - draw.uniform(0.1, 0.2) * off_centre
    collar = np.clip(1 - ((grid.rows - clavicle) / 0.02) ** 2, 0, 1) * (off_centre > 0.03) * (off_centre < 0.36)
    return bands * chest + 2.0 * collar


def _opacity(
    grid: _Grid, centre: tuple[float, float], draw: np.random.Generator
) -> tuple[tuple[slice, slice], np.ndarray]:
    """A soft blob with a wavy outline, at most 1, and the window of the image that holds it."""
    radius, squeeze, turn = draw.uniform(0.055, 0.09), draw.uniform(0.8, 1.25), draw.uniform(0, np.pi)
    heights, phases = draw.uniform(0.02, 0.08, 3), draw.uniform(0, 2 * np.pi, 3)
    window = _window(grid.size, centre[0], 1.9 * radius), _window(grid.size, centre[1], 1.9 * radius)
    down, right = grid.rows[window[0]] - np.float32(centre[0]), grid.columns[:, window[1]] - np.float32(centre[1])
    along = np.cos(turn) * right + np.sin(turn) * down
    across = (np.cos(turn) * down - np.sin(turn) * right) * squeeze
    angle = np.arctan2(across, along)
    waves = sum(height * np.cos(k * angle + phase) for k, height, phase in zip((2, 3, 5), heights, phases, strict=True))
    distance = np.hypot(along, across) / (radius * (1 + waves))
    return window, (1 / (1 + np.exp(7 * (distance - 1)))).astype(np.float32)


def _bump(distance, width: float):
    return np.exp(-((distance / width) ** 2))


def _window(size: int, centre: float, reach: float) -> slice:
    first, last = np.floor((centre - reach) * (size - 1)), np.ceil((centre + reach) * (size - 1))
    return slice(max(int(first), 0), min(int(last) + 1, size))


def _clouds(grid: _Grid, knots: int, draw: np.random.Generator) -> np.ndarray:
    """Smooth noise of unit variance at its knots."""
    values = draw.standard_normal((knots, knots), dtype=np.float32)
    return grid.from_knots[knots] @ values @ grid.from_knots[knots].T
