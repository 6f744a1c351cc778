"""What a model looked at: the variables of the paper's Figure 13 for one image and one note."""

# Shapes: N = h * w patches at the coarsest stride, L tokens, H and W of the image.

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from ..images import to_rgb8
from ..modeling_reclmis import RecLMISModel, RecLMISOutput
from .borrowing import evaluating
from .words import NoteWords, words_of


@dataclass(frozen=True, eq=False)
class Explanation:
    """One answer and what lies behind it. Maps are float32 over the prepared image; [`at_image`] lays them over the image.

    Attributes:
        image: RGB, at its own size.
        note: as asked, `None` for none.
        mask: uint8 `[H, W]` class indices at the image's size.
        probability: float32 `[H, W]` foreground probability, or `[K, H, W]`.
        presence: probability that the image shows what the note describes, `None` for models that do not judge it. Below
            0.5 the mask and its probability are empty.
        words: of the note, as far as it was read ([`reclmis.explanation.words.words_of`]).
        word_interest: W_woi (eq. 3), one weight per word, summed over its tokens; `None` when no loss trains it.
        left_out: tokens in no word (start, end, filler) and their weights; with `word_interest` they sum to 1.
        patch_interest: W_poi (eq. 2) `[h, w]`, sums to 1; `None` when no loss trains it.
        visual: V `[h, w]`, the Euclidean norm over its channels.
        interacted: V' `[h, w]`, likewise; `None` in models without interaction, where V' is V.
        word_attention: `[words, h, w]`, where each word looks: its attention over the patches, averaged over heads and over
            its tokens. Each sums to 1 under cross-attention; under self-attention the rest goes to words. `None` in models
            without interaction.
        patch_attention: `[words, h, w]`, how much each patch listens to each word: averaged over heads, summed over the
            word's tokens. Over the words it sums to at most 1, the rest goes to what is left out. `None` likewise.
        prepared_size: height and width of the model's input.
        content_size: the part of it, at the top left, that is the image; the rest is padding.
        remarks: sentences on what this model does not have.
    """

    image: Image.Image
    note: str | None
    mask: np.ndarray
    probability: np.ndarray
    presence: float | None
    words: tuple[str, ...]
    word_interest: tuple[float, ...] | None
    left_out: tuple[tuple[str, float], ...]
    patch_interest: np.ndarray | None
    visual: np.ndarray
    interacted: np.ndarray | None
    word_attention: np.ndarray | None
    patch_attention: np.ndarray | None
    prepared_size: tuple[int, int]
    content_size: tuple[int, int]
    remarks: tuple[str, ...]

    @property
    def weighted_words(self) -> list[tuple[str, float]]:
        """Words of interest: `(word, weight)`; empty where there is no W_woi or no note."""
        return [] if self.word_interest is None else list(zip(self.words, self.word_interest, strict=True))

    @property
    def patch_interest_at_image(self) -> np.ndarray | None:
        """W_poi at the image's size, float32 `[H, W]`, again summing to 1: a density, interpolated, without padding."""
        if self.patch_interest is None:
            return None
        density = self.at_image(self.patch_interest)
        return density / density.sum()

    def at_image(self, grid: np.ndarray) -> np.ndarray:
        """A map over the prepared image, `[h, w]` or `[n, h, w]` of any h and w, at the image's size: interpolated
        (bilinear), without padding; values keep their scale."""
        maps = torch.from_numpy(np.ascontiguousarray(grid, dtype=np.float32))[None]
        maps = maps if maps.ndim == 4 else maps[None]
        maps = F.interpolate(maps, size=self.prepared_size, mode="bilinear", align_corners=False)
        maps = maps[..., : self.content_size[0], : self.content_size[1]]
        size = (self.image.height, self.image.width)
        maps = F.interpolate(maps, size=size, mode="bilinear", align_corners=False)[0]
        return maps.numpy() if grid.ndim == 3 else maps[0].numpy()


@torch.no_grad()
def explain(model: Any, processor: Any, image: Any, note: str | None, *, threshold: float = 0.5) -> Explanation:
    """Asks one note of one image, and keeps what the model computed on the way.

    Args:
        model: an unpruned [`RecLMISModel`]; it stays in the mode that it is in.
        processor: its processor.
        image: path, PIL image, array or tensor.
        note: what to look for; `None` for a model with a null note.
        threshold: of the foreground probability, for binary models.

    Raises:
        ValueError: a pruned, optimised or exported model, an empty note, or an image whose values mean nothing.
        TypeError: no note, for a model that needs one.
    """
    _check_model(model)
    check_note(note)
    picture = to_rgb8(image)
    inputs = processor(images=picture, text=[note], return_tensors="pt").to(model.device)
    with evaluating(model):
        outputs = model(**inputs, output_attentions=True, output_features=True)
    (probability,) = processor.post_process_semantic_segmentation(
        outputs, target_sizes=[(picture.height, picture.width)], return_probabilities=True
    )
    mask = probability >= threshold if probability.ndim == 2 else probability.argmax(dim=0)
    words = words_of(
        processor.tokenizer, note or "", inputs["input_ids"][0].tolist(), inputs["attention_mask"][0].tolist()
    )
    grid = tuple(outputs.visual_features.shape[-2:])
    word_attention, patch_attention = _attention(outputs.attentions, grid, words)
    prepared = tuple(inputs["pixel_values"].shape[-2:])
    without = model.config.interaction == "none"
    return Explanation(
        image=picture,
        note=note,
        mask=mask.to(torch.uint8).cpu().numpy(),
        probability=probability.cpu().numpy(),
        presence=None if outputs.presence_logits is None else float(outputs.presence_logits.sigmoid()),
        words=words.words,
        **_word_interest(outputs.word_interest, words, note),
        patch_interest=None if outputs.patch_interest is None else _array(outputs.patch_interest[0]).reshape(grid),
        visual=_array(outputs.visual_features[0].float().norm(dim=0)),
        interacted=None if without else _array(outputs.interacted_patches[0].float().norm(dim=1)).reshape(grid),
        word_attention=word_attention,
        patch_attention=patch_attention,
        prepared_size=prepared,
        content_size=content_size(processor, picture),
        remarks=_remarks(model.config.interaction, outputs),
    )


def check_note(note: str | None) -> None:
    """Raises ValueError for a note without a word."""
    if note is not None and not note.strip():
        raise ValueError("The note is empty; say what to look for.")


def content_size(processor: Any, image: Image.Image) -> tuple[int, int]:
    """Height and width that the processor gives an image before it pads."""
    prepares = processor.image_processor
    if not prepares.do_resize:
        return image.height, image.width
    return int(prepares.size["height"]), int(prepares.size["width"])


def _check_model(model: Any) -> None:
    if not isinstance(model, RecLMISModel):
        raise ValueError(
            f"A {type(model).__name__} keeps no inner variables; load the checkpoint that it was made from as a "
            "RecLMISModel."
        )
    if model.config.prune_reconstruction:
        raise ValueError(
            "This model is pruned: what computes its patches and words of interest is gone. Load it without "
            "`prune_reconstruction=True`, from a checkpoint that was saved unpruned, and do not optimise it."
        )


def _word_interest(interest: torch.Tensor | None, words: NoteWords, note: str | None) -> dict[str, Any]:
    if interest is None or note is None:
        return {"word_interest": None, "left_out": ()}
    weights = interest[0].tolist()
    return {
        "word_interest": tuple(weight for _, weight in words.weighted(weights)),
        "left_out": tuple(words.left_out_weights(weights)),
    }


def _attention(
    attentions: dict[str, torch.Tensor] | None, grid: tuple[int, int], words: NoteWords
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Where words look, and which words patches listen to, each `[words, h, w]`."""
    if attentions is None:
        return None, None
    maps = {name: _array(attention[0].float().mean(dim=0)) for name, attention in attentions.items()}
    if "joint" in maps:
        patches = grid[0] * grid[1]
        looks, listens = maps["joint"][patches:, :patches], maps["joint"][:patches, patches:]
    else:
        looks, listens = maps["words_to_patches"], maps["patches_to_words"]
    return words.means(looks.reshape(-1, *grid)), words.sums(listens.T.reshape(-1, *grid))


def _remarks(interaction: str, outputs: RecLMISOutput) -> tuple[str, ...]:
    remarks = []
    if interaction == "none":
        remarks.append("This model has no interaction: V' is V, nothing attends, and no mask depends on the note.")
    if interaction == "self":
        remarks.append("This model attends over patches and words together: attention to the others does not sum to 1.")
    for name, interest in (("patches", outputs.patch_interest), ("words", outputs.word_interest)):
        if interest is None:
            remarks.append(f"No loss of this model trains {name} of interest, so it has none.")
    return tuple(remarks)


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.float().cpu().numpy()


__all__ = ["Explanation", "check_note", "content_size", "explain"]
