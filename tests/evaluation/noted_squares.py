"""Images of white squares in the zones of a chest, notes that name some of them, and a model whose rule is known."""

from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

from reclmis import RecLMISProcessor
from reclmis.image_processing_reclmis import RecLMISImageProcessor
from reclmis.notes import SIDES, ZONES, Finding, note_zones, render
from reclmis.text.note_tokenizer import build_note_tokenizer

SIZE = 64
# Where the synthetic set's opacities lie.
ROWS = {"upper": slice(16, 22), "middle": slice(28, 34), "lower": slice(38, 44)}
COLUMNS = {"left": slice(14, 20), "right": slice(44, 50)}
ALL_ZONES = [(side, height) for side in SIDES for height in ZONES]


def squares(zones) -> np.ndarray:
    mask = np.zeros((SIZE, SIZE), dtype=np.uint8)
    for side, height in zones:
        mask[ROWS[height], COLUMNS[side]] = 1
    return mask


def note_of(zones) -> str:
    heights = {side: frozenset(height for of, height in zones if of == side) or None for side in SIDES}
    return render(Finding(count=len(zones), **heights))


def noted_squares(number: int, *, distractors: bool = True, seed: int = 0):
    """A split like the synthetic set's: two to four squares, of which the note names some."""
    from datasets import Dataset, Features, Value
    from datasets import Image as ImageFeature

    draw, rows = np.random.default_rng(seed), []
    for index in range(number):
        zones = [ALL_ZONES[place] for place in draw.permutation(6)[: draw.integers(2, 5)]]
        named, others = zones[: len(zones) // 2], zones[len(zones) // 2 :]
        row = {"image": _picture(squares(zones)), "mask": _picture(squares(named)), "note": note_of(named),
               "id": f"squares_{index:03d}"}  # fmt: skip
        if distractors:
            free = [zone for zone in ALL_ZONES if zone not in zones]
            row |= {"distractor_note": note_of(others), "distractor_mask": _picture(squares(others)),
                    "absent_note": note_of(free[:1])}  # fmt: skip
        rows.append(row)
    kinds = {name: ImageFeature() if name.endswith(("image", "mask")) else Value("string") for name in rows[0]}
    return Dataset.from_list(rows, Features(kinds))


def reading_processor(notes) -> RecLMISProcessor:
    """With a tokenizer from which notes can be read back, and room for all of them."""
    tokenizer = build_note_tokenizer(list(notes) * 2, vocab_size=600, max_length=96)
    return RecLMISProcessor(RecLMISImageProcessor(size={"height": SIZE, "width": SIZE}), tokenizer, max_length=96)


class RuledModel:
    """Called like a model. It marks white pixels: those in the zones that the note names, or all of them.

    Args:
        processor: by which it reads notes.
        follows: whether it reads them.
        scale: of the logits.
    """

    device = torch.device("cpu")

    def __init__(self, processor: RecLMISProcessor, *, follows: bool, scale: float = 8.0) -> None:
        self.tokenizer, self.follows, self.scale = processor.tokenizer, follows, scale
        self.config = SimpleNamespace(num_labels=1, note_dropout=0.0, image_size=SIZE)

    def eval(self):
        return self

    def get_image_embeddings(self, pixel_values):
        return pixel_values

    def __call__(self, pixel_values=None, input_ids=None, attention_mask=None, image_embeddings=None):
        pixels = image_embeddings if pixel_values is None else pixel_values
        assert len(pixels) == len(input_ids)
        middle = (pixels.amax(dim=(1, 2, 3)) + pixels.amin(dim=(1, 2, 3))) / 2
        white = pixels.mean(dim=1) > middle[:, None, None]
        if self.follows:
            notes = self.tokenizer.batch_decode(input_ids, skip_special_tokens=True)
            white = white & torch.stack([torch.from_numpy(_area(note)) for note in notes])
        return SimpleNamespace(logits=(2 * white.float() - 1)[:, None] * self.scale, presence_logits=None)


def _area(note: str) -> np.ndarray:
    """The zones named, a bit larger than their squares."""
    area = np.zeros((SIZE, SIZE), dtype=bool)
    for side, height in note_zones(note):
        rows, columns = ROWS[height], COLUMNS[side]
        area[rows.start - 2 : rows.stop + 2, columns.start - 4 : columns.stop + 4] = True
    return area


def _picture(mask: np.ndarray) -> Image.Image:
    return Image.fromarray(mask * 255)
