"""A synthetic set of chest radiographs with notes: procedural, seeded, our own drawing.

Every image holds opacities that look alike in several zones. The note names some of them, and only those are in the
mask; the others are distractors that nothing but the note can tell apart.
"""

from typing import Any

import numpy as np

from .notes import SIDES, ZONES

NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
ALL_ZONES = tuple((side, height) for side in SIDES for height in ZONES)


def make_sample(index: int, *, size: int = 224, seed: int = 0) -> dict[str, Any]:
    """Draws sample `index`: a function of `(seed, index, size)` alone.

    Returns:
        `image` uint8 `[size, size, 3]` (grey), `mask` uint8 `[size, size]` (0 and 1), `note`, `id`, and of the same
        image the other question: `distractor_note` and `distractor_mask`.
    """
    draw = np.random.Generator(np.random.Philox(key=[seed, index]))
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32) / (size - 1)
    lungs = _Lungs(draw)
    background, inside = lungs.draw(rows, columns, draw)
    count = int(draw.integers(3, 7))
    chosen = [ALL_ZONES[i] for i in draw.permutation(len(ALL_ZONES))[:count]]
    named = chosen[: int(draw.integers(1, count))]
    shapes, density = {}, np.zeros_like(rows)
    for zone in chosen:
        opacity = _opacity(rows, columns, lungs.centre(zone, draw), draw) * inside[zone[0]]
        shapes[zone] = opacity > 0.35
        density = np.maximum(density, opacity)
    image = background + 0.38 * density * (1 - background)
    image += draw.normal(0, 0.02, image.shape).astype(np.float32)
    pixels = (np.clip(image, 0, 1) * 255).astype(np.uint8)
    others = [zone for zone in chosen if zone not in named]
    return {
        "image": np.repeat(pixels[:, :, None], 3, axis=2),
        "mask": _union(shapes, named, rows.shape),
        "note": write_note(named, draw),
        "id": f"synthetic_{seed}_{index:06d}",
        "distractor_note": write_note(others, draw),
        "distractor_mask": _union(shapes, others, rows.shape),
    }


def write_note(zones: list[tuple[str, str]], draw: np.random.Generator) -> str:
    """A note in the grammar of QaTa-COV19 that names these zones, in one of its phrasings."""
    sides = {side for side, _ in zones}
    places = []
    for side in (side for side in SIDES if side in sides):
        heights = [height for height in ZONES if (side, height) in zones]
        places.append(f"{'all' if len(heights) == len(ZONES) else ' '.join(heights)} {side} lung")
    extent = "Bilateral" if len(sides) == 2 else "Unilateral"
    areas = f"{NUMBERS[len(zones)]} infected area{'s' if len(zones) > 1 else ''}"
    finding = ("pulmonary infection", "lung infection", "pulmonary opacity")[int(draw.integers(3))]
    return f"{extent} {finding}, {areas}, {' and '.join(places)}."


def synthetic_dataset(
    num_train: int = 400, num_validation: int = 100, size: int = 224, seed: int = 0, verify: bool = True, **_: Any
):
    """The set as a `DatasetDict` of `train` and `validation`, with `image`, `mask`, `note`, `id`, `distractor_note` and
    `distractor_mask`. The splits share no sample.

    Args:
        num_train, num_validation: samples.
        size: side in pixels.
        seed: another seed is another set.
    """
    from datasets import Dataset, DatasetDict, Features, Image, Value

    features = Features(
        {
            "image": Image(),
            "mask": Image(),
            "note": Value("string"),
            "id": Value("string"),
            "distractor_note": Value("string"),
            "distractor_mask": Image(),
        }
    )
    ranges = {"train": range(num_train), "validation": range(num_train, num_train + num_validation)}
    return DatasetDict(
        {
            split: Dataset.from_list([_encoded(make_sample(i, size=size, seed=seed)) for i in indices], features=features)
            for split, indices in ranges.items()
        }
    )


def _encoded(sample: dict[str, Any]) -> dict[str, Any]:
    from PIL import Image

    return {
        **sample,
        "image": Image.fromarray(sample["image"][:, :, 0]),
        "mask": Image.fromarray(sample["mask"] * 255),
        "distractor_mask": Image.fromarray(sample["distractor_mask"] * 255),
    }


class _Lungs:
    """Position and shape of the two lungs: tilted ellipses, flattened below by the diaphragm. Lengths are shares of the
    image's side."""

    def __init__(self, draw: np.random.Generator) -> None:
        self.middle = {side: (0.5 + draw.uniform(-0.02, 0.02), x + draw.uniform(-0.02, 0.02))
                       for side, x in (("left", 0.30), ("right", 0.70))}  # fmt: skip
        self.half_height = {side: draw.uniform(0.33, 0.38) for side in SIDES}
        self.half_width = {side: draw.uniform(0.13, 0.165) for side in SIDES}
        self.tilt = {"left": draw.uniform(0.05, 0.16), "right": -draw.uniform(0.05, 0.16)}

    def centre(self, zone: tuple[str, str], draw: np.random.Generator) -> tuple[float, float]:
        """A point in the zone: its third of the lung's height, near the lung's axis."""
        side, height = zone
        offset = {"upper": -0.60, "middle": 0.0, "lower": 0.60}[height] + draw.uniform(-0.12, 0.12)
        row = self.middle[side][0] + offset * self.half_height[side]
        column = self.middle[side][1] - self.tilt[side] * (row - self.middle[side][0]) * 2
        return row, column + draw.uniform(-0.25, 0.25) * self.half_width[side]

    def draw(self, rows, columns, draw):
        """Image without findings, 0 to 1, and where each lung is, softly."""
        body = _soft(1 - ((columns - 0.5) / 0.49) ** 4 - ((rows - 0.58) / 0.62) ** 6, 0.15)
        image = 0.06 + 0.62 * body
        inside = {}
        for side in SIDES:
            row, column = self.middle[side]
            along = (rows - row) / self.half_height[side]
            across = (columns - column + self.tilt[side] * (rows - row) * 2) / self.half_width[side]
            inside[side] = _soft(1 - along**2 - np.abs(across) ** 2.2, 0.12)
            image -= 0.44 * inside[side]
        heart = _soft(1 - ((columns - 0.56) / 0.17) ** 2 - ((rows - 0.66) / 0.17) ** 2, 0.3)
        spine = np.exp(-(((columns - 0.5) / 0.045) ** 2))
        image += 0.16 * heart + 0.10 * spine * body
        image += self._ribs(rows, columns, draw) * body
        shade = draw.uniform(-0.08, 0.08, 2)
        return np.clip(image * draw.uniform(0.85, 1.12) + shade[0] * (rows - 0.5) + shade[1] * (columns - 0.5), 0, 1), inside

    @staticmethod
    def _ribs(rows, columns, draw):
        """Bright bands that fall from the spine to the sides, clavicles included."""
        pitch, phase = draw.uniform(0.095, 0.115), draw.uniform(0, 1)
        arch = rows - 0.9 * (columns - 0.5) ** 2 - 0.10 * np.abs(columns - 0.5)
        bands = np.maximum(np.cos(2 * np.pi * (arch / pitch + phase)), 0) ** 3
        chest = _soft(1 - ((rows - 0.48) / 0.42) ** 4, 0.2) * (np.abs(columns - 0.5) > 0.04)
        return 0.07 * bands * chest


def _opacity(rows, columns, centre: tuple[float, float], draw: np.random.Generator) -> np.ndarray:
    """A soft blob with a wavy outline, at most 1."""
    radius, squeeze, turn = draw.uniform(0.055, 0.10), draw.uniform(0.75, 1.3), draw.uniform(0, np.pi)
    down, right = rows - centre[0], columns - centre[1]
    along = np.cos(turn) * right + np.sin(turn) * down
    across = (-np.sin(turn) * right + np.cos(turn) * down) * squeeze
    angle = np.arctan2(across, along)
    waves = sum(draw.uniform(0.03, 0.12) * np.cos(k * angle + draw.uniform(0, 2 * np.pi)) for k in (2, 3, 5))
    distance = np.hypot(along, across) / (radius * (1 + waves))
    return (1 / (1 + np.exp(7 * (distance - 1)))).astype(np.float32)


def _soft(level: np.ndarray, width: float) -> np.ndarray:
    """0 outside, 1 inside, a ramp of `width` at the level line 0."""
    return np.clip(level / width, 0, 1).astype(np.float32)


def _union(shapes: dict, zones: list, shape: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    for zone in zones:
        mask |= shapes[zone]
    return mask.astype(np.uint8)
