"""What each word does: the same note without it."""

from typing import Any

import torch

from ..images import to_rgb8
from .borrowing import evaluating
from .maps import check_note
from .words import words_of


@torch.no_grad()
def word_removal(
    model: Any, processor: Any, image: Any, note: str, *, threshold: float = 0.5
) -> tuple[tuple[str, float], ...]:
    """How much of the mask each word decides: what words of interest (W_woi) are held against.

    A word's tokens become padding where they are, and the note is asked again: what moved up would be read anew by encoders
    that learned positions.

    Args:
        model: a [`RecLMISModel`], pruned or not, with a text encoder that reads any note; it stays in its mode.
        processor: its processor.
        image: path, PIL image, array or tensor.
        note: what to look for.
        threshold: of the foreground probability, for binary models.

    Returns:
        Per word ([`reclmis.explanation.words.words_of`]) 1 - Dice of the masks with and without it, over any foreground:
        0 where the word changes nothing, 1 where nothing of the mask stays.

    Raises:
        ValueError: an empty note, or a model that keeps a table of notes.
    """
    check_note(note)
    if hasattr(model.text_encoder, "knows"):
        raise ValueError(
            "This model keeps a table of notes, in which no note without a word is; use it with its encoder."
        )
    picture = to_rgb8(image)
    inputs = processor(images=picture, text=note, return_tensors="pt").to(model.device)
    ids, real = inputs["input_ids"][0], inputs["attention_mask"][0]
    words = words_of(processor.tokenizer, note, ids.tolist(), real.tolist())
    # A processor pads with what it has been told to, which attention may see.
    padding = processor.tokenize([""], return_tensors="pt")["input_ids"][0, -1].to(ids.device)
    notes, masks = ids.repeat(1 + len(words.words), 1), real.repeat(1 + len(words.words), 1)
    for row, places in enumerate(words.tokens, 1):
        notes[row, list(places)] = padding
        masks[row, list(places)] = 0
    with evaluating(model):
        embeddings = model.get_image_embeddings(inputs["pixel_values"])
        outputs = model(image_embeddings=embeddings, input_ids=notes, attention_mask=masks)
    found = processor.post_process_semantic_segmentation(
        outputs, target_sizes=[(picture.height, picture.width)] * len(notes), threshold=threshold
    )
    changes = (_difference(found[0] > 0, without > 0) for without in found[1:])
    return tuple(zip(words.words, changes, strict=True))


def _difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """1 - Dice; two empty masks are the same."""
    size = int(one.sum() + other.sum())
    return 1 - 2 * int((one & other).sum()) / size if size else 0.0


__all__ = ["word_removal"]
