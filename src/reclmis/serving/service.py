"""An uploaded file and a note -> a mask, or a sentence that says why not. Uploads are not run, and not stored."""

import hashlib
import threading
import warnings
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..errors import one_line
from ..explanation.words import words_of
from ..image_embeddings import ImageEmbeddings
from ..images import read_image
from ..processing_reclmis import NoteNotNormalisedWarning, NoteTooLongWarning

# Half an hour's radiographs weigh a few megabytes each; what is larger is seldom an image that was meant.
MAX_BYTES = 20_000_000
# The largest mammograms have 14 million. A file of a few kilobytes may unpack to any number.
MAX_PIXELS = 16_000_000
MAX_NOTE_CHARACTERS = 2000
# Images that stay encoded, so that a changed note is answered at once: some tens of megabytes each for large presets. They
# are fewer where they have more than `max_pixels` together.
IMAGES_KEPT = 4


class RefusedRequest(ValueError):
    """A request that cannot be answered; the message is for the person who asked."""


@dataclass(frozen=True)
class Answer:
    """What a person is shown.

    Attributes:
        image: as it was read, RGB.
        mask: uint8 `[H, W]` class indices at the image's own size.
        probability: float32 `[H, W]` foreground probability, or `[K, H, W]`.
        presence: probability that the image shows what the note describes, `None` for models that do not judge it.
        patch_interest: float32 `[h, w]`, where in the image the note is about (W_poi, eq. 2), sums to 1; `None` when the
            model is pruned or was trained without it.
        word_interest: words of the note and how much each matters (W_woi, eq. 3), summed over its tokens; with special
            tokens, which are left out, they sum to 1. `None` likewise.
        remarks: sentences that should be shown with the mask.
    """

    image: Image.Image
    mask: np.ndarray
    probability: np.ndarray
    presence: float | None
    patch_interest: np.ndarray | None
    word_interest: list[tuple[str, float]] | None
    remarks: tuple[str, ...]


class SegmentationService:
    """A model that answers one request at a time; safe to call from several threads.

    Args:
        model: a [`RecLMISModel`], or an [`reclmis.exported.ExportedModel`].
        processor: its processor.
        max_bytes: of an uploaded file.
        max_pixels: of an image.
    """

    def __init__(self, model: Any, processor: Any, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS) -> None:
        self.model, self.processor = model.eval(), processor
        self.max_bytes, self.max_pixels = max_bytes, max_pixels
        self._lock = threading.Lock()
        self._encoded: OrderedDict[bytes, tuple[Image.Image, ImageEmbeddings]] = OrderedDict()

    @torch.inference_mode()
    def answer(self, content: bytes, note: str | None, threshold: float = 0.5) -> Answer:
        """Segments an uploaded file.

        Args:
            content: of a PNG, JPEG, TIFF, BMP or DICOM file.
            note: what to look for; `None` where the model does without.
            threshold: of the foreground probability, for binary models.

        Raises:
            RefusedRequest: a file that is too large or no image, an image that the model does not take, no note, a note
                that is too long or that the model does not know, or a threshold out of range.
        """
        if not 0 <= threshold <= 1:
            raise RefusedRequest(f"The threshold is a probability between 0 and 1, not {threshold}.")
        self._check_note(note)
        self._check_size(content)
        # Models are shared by all threads, and on a CPU two answers at once are no faster than one after the other.
        with self._lock:
            try:
                image, embeddings = self._embeddings(content)
                tokens, remarks = self._tokens(note)
                outputs = self.model(image_embeddings=embeddings, **tokens)
                (probability,) = self.processor.post_process_semantic_segmentation(
                    outputs, target_sizes=[(image.height, image.width)], return_probabilities=True
                )
            except ValueError as error:
                raise RefusedRequest(one_line(error)) from error
        probability = probability.float()  # NumPy has no bfloat16
        mask = probability >= threshold if probability.ndim == 2 else probability.argmax(dim=0)
        presence = None if outputs.presence_logits is None else float(outputs.presence_logits.sigmoid())
        return Answer(
            image, mask.to(torch.uint8).cpu().numpy(), probability.cpu().numpy(), presence,
            self._patches(outputs, embeddings), self._words(outputs, tokens, note), remarks,
        )  # fmt: skip

    def _check_note(self, note: str | None) -> None:
        if note is None and self.model.config.note_dropout:
            return
        if note is None or not note.strip():
            raise RefusedRequest("Say what to look for: the note is empty.")
        if len(note) > MAX_NOTE_CHARACTERS:
            raise RefusedRequest(f"The note has {len(note)} characters; at most {MAX_NOTE_CHARACTERS} are read.")

    def _check_size(self, content: bytes) -> None:
        if len(content) > self.max_bytes:
            raise RefusedRequest(
                f"The file has {len(content) / 1e6:.1f} MB; at most {self.max_bytes / 1e6:.0f} MB are read."
            )

    def _tokens(self, note: str | None) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
        """A note as the model takes it, and what should be said of it."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            tokens = self.processor.tokenize([note], "pt")
        worth = (NoteTooLongWarning, NoteNotNormalisedWarning)
        remarks = tuple(str(each.message) for each in caught if issubclass(each.category, worth))
        return {key: value.to(self.model.device) for key, value in tokens.items()}, remarks

    def _embeddings(self, content: bytes) -> tuple[Image.Image, ImageEmbeddings]:
        name = hashlib.sha256(content).digest()
        if name not in self._encoded:
            try:
                image = read_image(content, "The file", self.max_pixels)
            except ImportError as error:
                raise RefusedRequest(one_line(error)) from error
            pixels = self.processor(images=image, return_tensors="pt")["pixel_values"].to(self.model.device)
            self._encoded[name] = (image, self.model.get_image_embeddings(pixels))
            while len(self._encoded) > IMAGES_KEPT or self._pixels_kept() > self.max_pixels:
                self._encoded.popitem(last=False)
        self._encoded.move_to_end(name)
        return self._encoded[name]

    def _pixels_kept(self) -> int:
        return sum(image.width * image.height for image, _ in self._encoded.values())

    def _patches(self, outputs: Any, embeddings: ImageEmbeddings) -> np.ndarray | None:
        if outputs.patch_interest is None:
            return None
        return outputs.patch_interest[0].reshape(embeddings.visual.shape[-2:]).float().cpu().numpy()

    def _words(self, outputs: Any, tokens: dict[str, torch.Tensor], note: str | None) -> list[tuple[str, float]] | None:
        if outputs.word_interest is None or note is None:
            return None
        ids, real = (tokens[name][0].tolist() for name in ("input_ids", "attention_mask"))
        return words_of(self.processor.tokenizer, note, ids, real).weighted(outputs.word_interest[0].tolist())


__all__ = ["Answer", "RefusedRequest", "SegmentationService"]
