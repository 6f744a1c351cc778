"""A synthetic set of chest radiographs with notes: procedural, seeded, our own drawing.

Every image holds opacities that look alike in several zones. The note names some of them, and only those are in the
mask; the others are distractors that nothing but the note can tell apart.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from .notes import SIDES, ZONES, Zone
from .radiograph import draw_radiograph

if TYPE_CHECKING:
    from datasets import DatasetDict

_ALL_ZONES = tuple((side, height) for side in SIDES for height in ZONES)
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
_FINDINGS = ("pulmonary infection", "lung infection", "pulmonary opacity")
_LARGEST_KEY = 2**64 - 1


def make_sample(index: int, *, size: int = 224, seed: int = 0) -> dict[str, Any]:
    """Draws sample `index`: a function of `(seed, index, size)` alone. Its layout and notes do not depend on the size.

    Two to four zones hold an opacity; the note names at least one and leaves out at least one.

    Args:
        index: 0 to 2^64 - 1; indices far apart are as independent as neighbours.
        size: side in pixels, at least 32.
        seed: another seed is another set.

    Returns:
        `image` uint8 `[size, size, 3]` (grey), `mask` uint8 `[size, size]` (0 and 1), `note`, `id`, and of the same
        image the other question: `distractor_note` names the zones that the note leaves out, `distractor_mask` shows
        them. The two masks are disjoint and never empty. `absent_note` names zones without any opacity.

    Raises:
        ValueError: a size, index or seed out of range.
    """
    if size < 32:
        raise ValueError(f"A zone of a radiograph of {size} pixels is too small to see. Draw at least 32.")
    for name, value in (("index", index), ("seed", seed)):
        if not 0 <= value <= _LARGEST_KEY:
            raise ValueError(f"`{name}` must be 0 to 2^64 - 1, got {value}.")
    draw = np.random.Generator(np.random.Philox(key=np.array([seed, index], dtype=np.uint64)))
    count = int(draw.integers(2, 5))
    zones = [_ALL_ZONES[i] for i in draw.permutation(len(_ALL_ZONES))[:count]]
    split = int(draw.integers(1, count))
    named, others = zones[:split], zones[split:]
    notes = write_note(named, draw), write_note(others, draw)
    # Last, because its noise takes as many draws as there are pixels.
    pixels, owner = draw_radiograph(zones, size, draw)
    # A stream of its own: it came later, and must not move the other draws.
    apart = np.random.Generator(np.random.Philox(key=np.array([seed, index], dtype=np.uint64), counter=[0, 0, 0, 1]))
    free = [zone for zone in _ALL_ZONES if zone not in zones]
    absent = [free[i] for i in apart.permutation(len(free))[: int(apart.integers(1, len(free) + 1))]]
    return {
        "image": np.repeat(pixels[:, :, None], 3, axis=2),
        "mask": ((owner >= 0) & (owner < split)).astype(np.uint8),
        "note": notes[0],
        "id": f"synthetic_{seed}_{index:06d}",
        "distractor_note": notes[1],
        "distractor_mask": (owner >= split).astype(np.uint8),
        "absent_note": write_note(absent, apart),
    }


def write_note(zones: list[Zone], draw: np.random.Generator) -> str:
    """A note in the grammar of QaTa-COV19 that names these zones, in one of its phrasings."""
    sides = {side for side, _ in zones}
    places = []
    for side in (side for side in SIDES if side in sides):
        heights = [height for height in ZONES if (side, height) in zones]
        places.append(f"{'all' if len(heights) == len(ZONES) else ' '.join(heights)} {side} lung")
    extent = "Bilateral" if len(sides) == 2 else "Unilateral"
    areas = f"{_NUMBERS[len(zones)]} infected area{'s' if len(zones) > 1 else ''}"
    finding = _FINDINGS[int(draw.integers(len(_FINDINGS)))]
    return f"{extent} {finding}, {areas}, {' and '.join(places)}."


def synthetic_dataset(
    *, num_train: int = 400, num_validation: int = 100, size: int = 224, seed: int = 0
) -> "DatasetDict":
    """The set as `train` and `validation`, with `image`, `mask`, `note`, `id`, `distractor_note`, `distractor_mask`
    and `absent_note`.
    The splits share no sample.

    Args:
        num_train, num_validation: samples, at least 1 each.
        size: side in pixels.
        seed: another seed is another set.

    Raises:
        ValueError: a number out of range.
    """
    from datasets import Dataset, DatasetDict, Features, Image, Value

    for name, value in (("num_train", num_train), ("num_validation", num_validation)):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}.")
    features = Features(
        {
            "image": Image(),
            "mask": Image(),
            "note": Value("string"),
            "id": Value("string"),
            "distractor_note": Value("string"),
            "distractor_mask": Image(),
            "absent_note": Value("string"),
        }
    )
    splits = {"train": range(num_train), "validation": range(num_train, num_train + num_validation)}
    return DatasetDict(
        {
            split: Dataset.from_list([_as_images(make_sample(i, size=size, seed=seed)) for i in indices], features)
            for split, indices in splits.items()
        }
    )


def _as_images(sample: dict[str, Any]) -> dict[str, Any]:
    from PIL import Image

    masks = {key: Image.fromarray(sample[key] * 255) for key in ("mask", "distractor_mask")}
    return {**sample, **masks, "image": Image.fromarray(sample["image"][:, :, 0])}
