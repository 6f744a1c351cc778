"""Many images and notes -> masks, with bounded memory."""

import re
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from .image_embeddings import ImageEmbeddings
from .images import read_image, to_rgb8
from .notes.lexicon import SIDES, ZONES
from .processing_reclmis import NoteNotNormalisedWarning, NoteTooLongWarning
from .text import without_padding
from .tiling import check_tiling, tile_weight, tiles_of

# Of a screening's list of findings all stay encoded; a note's states take some tens of kilobytes.
NOTES_KEPT = 1024


@dataclass
class Prediction:
    """The answer to one image and note.

    Attributes:
        index: running number of the request, from 0.
        source: the path, or the running number of an image that came without one.
        note: as asked.
        image: RGB image at its own size.
        mask: uint8 `[H, W]` class indices at the image's own size.
        probability: float32 `[H, W]` foreground probability, or `[K, H, W]`.
        presence: probability that the image shows what the note describes, `None` for models that do not judge it. Below
            0.5 the mask and its probability are empty.
    """

    index: int
    source: str
    note: str | None
    image: Image.Image
    mask: np.ndarray
    probability: np.ndarray
    presence: float | None = None


class TiledNoteWarning(UserWarning):
    """A note that names a place is asked of the tiles of an image."""


def predict(
    model: Any,
    processor: Any,
    requests: Iterable[tuple[Any, str | None]],
    *,
    batch_size: int = 8,
    threshold: float = 0.5,
    on_error: Callable[[str, ValueError], None] | None = None,
    tile: int | None = None,
    overlap: float = 0.25,
) -> Iterator[Prediction]:
    """Segments images as their notes say, in order; holds no more than one batch in memory.

    An image with several notes, one request after the other, is encoded once; a note that was asked lately is not encoded
    again.

    Args:
        model: a [`RecLMISModel`], on the device that shall do the work, which is put into evaluation mode; or an exported
            one ([`reclmis.exported.ExportedModel`]).
        processor: its processor.
        requests: pairs of an image (path, PIL image, array or tensor) and its note; `None` asks a model with a null note
            for all that it finds.
        batch_size: images per forward pass.
        threshold: of the foreground probability, for binary models.
        on_error: called as `on_error(source, error)` for a request that cannot be answered, which is then left out;
            `None` raises.
        tile: side in pixels of overlapping squares that an image is cut into; each is asked by itself, as if it were the
            image, and probabilities are averaged, the middle of a tile counting more than its border. For large images
            whose details the processor's resizing would lose. A note about a place in the image means the place in the
            tile then: there is a warning.
        overlap: share of a tile that its neighbour covers too, from 0 to below 1.

    Raises:
        UnreadableImageError: an image that cannot be read.
        ValueError: an empty note, or one that a model with a table of notes does not have; pixel values without
            meaning; a batch size, threshold, tile or overlap out of range.
    """
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
    if not 0 <= threshold <= 1:
        raise ValueError(f"`threshold` is a probability between 0 and 1, got {threshold}.")
    check_tiling(tile, overlap)
    asker = _Asker(model.eval(), processor, batch_size, threshold, tile, overlap)
    return _predictions(asker, enumerate(requests), batch_size, on_error)


@dataclass(frozen=True)
class _Request:
    index: int
    source: str
    note: str | None
    image: Image.Image
    key: Any  # equal keys are one image
    stamp: Any = None  # of the file, to tell whether it is still the same


def _predictions(asker: "_Asker", numbered, batch_size: int, on_error) -> Iterator[Prediction]:
    ready: list[_Request] = []
    for taken, (index, (image, note)) in enumerate(numbered, 1):
        source = str(image) if isinstance(image, str | Path) else str(index)
        try:
            asker.check_note(note, source)
            stamp = _stamp(image)
            # The same file once more is not read again.
            same = ready and stamp is not None and stamp == ready[-1].stamp
            opened = ready[-1].image if same else _opened(image, source)
            request = _Request(index, source, note, opened, ready[-1].key if same else _key(opened), stamp)
            asker.check_image(request)
            ready.append(request)
        except ValueError as error:
            if on_error is None:
                raise
            on_error(source, error)
        if taken % batch_size == 0:
            yield from asker.answer(ready)
            ready = []
    yield from asker.answer(ready)


def _key(image: Image.Image) -> Any:
    """Of the content: the same array or path may hold another image by the next request."""
    return image.size, blake2b(image.tobytes(), digest_size=16).digest()


def _stamp(image: Any) -> Any:
    """What changes when a file does; `None` for images in memory and files that are not there."""
    if not isinstance(image, str | Path):
        return None
    try:
        found = Path(image).stat()
    except OSError:
        return None
    return str(image), found.st_ino, found.st_size, found.st_mtime_ns


def _opened(image: Any, source: str) -> Image.Image:
    if isinstance(image, str | Path):
        return read_image(image)
    try:
        # A copy: whoever asks may draw the next image into the same memory.
        return to_rgb8(image).copy()
    except ValueError as error:
        raise ValueError(f"Image {source}: {error}") from error


class _Asker:
    """Answers batches of requests, and remembers the last image and the latest notes."""

    def __init__(self, model, processor, batch_size: int, threshold: float, tile: int | None, overlap: float) -> None:
        self.model, self.processor = model, processor
        self.batch_size, self.threshold = batch_size, threshold
        self.tile, self.overlap = tile, overlap
        self._notes: OrderedDict[tuple[int, ...], torch.Tensor] = OrderedDict()
        # Key and embeddings of the image that was asked last, and of the last one of the newest batch.
        self._last: tuple[Any, ImageEmbeddings | None] | None = None
        self._newest: tuple[Any, ImageEmbeddings | None] | None = None
        # Until an image is asked again, nothing is kept of images where that is slower.
        self._keeps = not getattr(model, "prefers_pixels", False)
        self._warned = False
        self._sound: OrderedDict[str, None] = OrderedDict()
        self._fitting: set[tuple[int, int] | None] = set()

    def check_note(self, note: Any, source: str) -> None:
        """Refuses a note that cannot be asked, and warns once of one that is cut."""
        if note is None and self.model.config.note_dropout:
            return
        if not isinstance(note, str) or not note.strip():
            raise ValueError(f"The note for {source} is empty ({note!r}); say what to look for.")
        if note in self._sound:
            return
        tokens = self.processor.tokenize([note], "pt").to(self.model.device)
        encoder = self.model.text_encoder
        knows = getattr(encoder, "knows", None)
        if knows is not None and not knows(**tokens).all():
            raise ValueError(f"The note for {source} ({note!r}) is {encoder.refusal}")
        self._sound[note] = None
        if len(self._sound) > NOTES_KEPT:
            self._sound.popitem(last=False)

    def check_image(self, request: _Request) -> None:
        """Refuses an image whose size the model cannot take, and warns of a note whose place no tile knows."""
        image, note = request.image, request.note
        boxes = [(0, 0, *image.size)]
        if self.tile is not None:
            boxes = tiles_of(image.height, image.width, self.tile, self.overlap)
        for box in boxes:
            # Resized, all images have one size.
            resized = self.processor.image_processor.do_resize
            size = None if resized else (box[2] - box[0], box[3] - box[1])
            if size not in self._fitting:
                pixels = self.processor(images=image.crop(box), return_tensors="pt")["pixel_values"]
                try:
                    self.model.check_pixels(pixels)
                except ValueError as error:
                    raise ValueError(f"Image {request.source}: {error}") from error
                self._fitting.add(size)
        if note is None or len(boxes) == 1:
            return
        places = sorted({*SIDES, *ZONES} & set(re.findall(r"[a-z]+", note.lower())))
        if places and not self._warned:
            self._warned = True
            warnings.warn(
                f"The note for {request.source} ({note!r}) names a place ({', '.join(places)}), which every tile takes for "
                "a place within itself. Leave `tile` out where notes say where to look.",
                TiledNoteWarning,
                stacklevel=2,
            )

    @torch.no_grad()
    def answer(self, requests: list[_Request]) -> Iterator[Prediction]:
        if self.tile is not None:
            for _, same_image in groupby(requests, key=lambda request: request.key):
                yield from self._answer_by_tiles(list(same_image))
            return
        for request, (probability, presence) in zip(requests, self._ask(requests), strict=True):
            yield self._prediction(request, probability, presence)

    def _prediction(self, request: _Request, probability: torch.Tensor, presence: float | None) -> Prediction:
        mask = probability >= self.threshold if probability.ndim == 2 else probability.argmax(dim=0)
        return Prediction(
            request.index, request.source, request.note, request.image,
            mask.to(torch.uint8).cpu().numpy(), probability.float().cpu().numpy(), presence,
        )  # fmt: skip

    def _answer_by_tiles(self, requests: list[_Request]) -> Iterator[Prediction]:
        """Several notes on one image. A batch of tiles is in memory at a time."""
        image = requests[0].image
        assert self.tile is not None
        pieces = (
            (box, place, replace(request, image=cut, key=key))
            for box in tiles_of(image.height, image.width, self.tile, self.overlap)
            for cut in [image.crop(box)]
            for key in [_key(cut)]
            for place, request in enumerate(requests)
        )
        sums: list[Any] = [0.0] * len(requests)
        presences: list[float | None] = [None] * len(requests)
        total = torch.zeros(image.height, image.width, dtype=torch.float64)
        while batch := list(islice(pieces, self.batch_size)):
            answers = self._ask([request for _, _, request in batch])
            for (box, place, _), (probability, presence) in zip(batch, answers, strict=True):
                rows, columns = slice(box[1], box[3]), slice(box[0], box[2])
                weight = tile_weight(*probability.shape[-2:])
                if place == 0:
                    total[rows, columns] += weight
                if isinstance(sums[place], float):
                    sums[place] = torch.zeros(*probability.shape[:-2], *total.shape, dtype=torch.float64)
                sums[place][..., rows, columns] += weight * probability.cpu()
                if presence is not None:
                    presences[place] = max(presence, presences[place] or 0.0)
        for request, probability, presence in zip(requests, sums, presences, strict=True):
            yield self._prediction(request, (probability / total).float(), presence)

    def _ask(self, requests: list[_Request]) -> list[tuple[torch.Tensor, float | None]]:
        """Probabilities at the images' own sizes, and of presence."""
        if not requests:
            return []
        images = {request.key: request for request in requests}
        asked_again = len(images) < len(requests) or (self._last is not None and self._last[0] in images)
        if asked_again and not self._keeps:
            self._last, self._keeps = None, True
        # Padded to the largest of a batch, an image would be answered according to its company.
        pixels = {
            key: self.processor(images=request.image, return_tensors="pt")["pixel_values"]
            for key, request in images.items()
            if self._last is None or self._last[0] != key
        }
        alike: dict[Any, list[int]] = {}
        for place, request in enumerate(requests):
            size = self._last[1].image_size if request.key not in pixels else tuple(pixels[request.key].shape[-2:])  # type: ignore[index,union-attr]
            alike.setdefault(size, []).append(place)
        answers: dict[int, tuple[torch.Tensor, float | None]] = {}
        last = self._last
        for places in alike.values():
            group = [requests[place] for place in places]
            answers |= zip(places, self._ask_alike(group, pixels), strict=True)
            if places[-1] == len(requests) - 1:
                last = self._newest
        self._last = last
        return [answers[place] for place in range(len(requests))]

    def _ask_alike(self, requests: list[_Request], pixels: dict[Any, torch.Tensor]):
        """Requests whose images have one prepared size."""
        keys = list(dict.fromkeys(request.key for request in requests))
        notes = self._encoded([request.note for request in requests])
        if not self._keeps:
            self._newest = (requests[-1].key, None)
            outputs = self.model(torch.cat([pixels[key] for key in keys]).to(self.model.device), **notes)
            return self._judged(outputs, requests)
        parts: list[Any] = []
        known = [key for key in keys if key not in pixels]
        if known:
            parts.append(self._last[1])  # type: ignore[index]
        unknown = [key for key in keys if key in pixels]
        if unknown:
            batch = torch.cat([pixels[key] for key in unknown]).to(self.model.device)
            parts.append(self.model.get_image_embeddings(batch))
        embeddings = ImageEmbeddings.concatenate(parts)
        keys = [*known, *unknown]
        rows = [keys.index(request.key) for request in requests]
        self._newest = (requests[-1].key, embeddings[rows[-1:]])
        chosen = embeddings if len(keys) == 1 or rows == list(range(len(keys))) else embeddings[rows]
        return self._judged(self.model(image_embeddings=chosen, **notes), requests)

    def _judged(self, outputs: Any, requests: list[_Request]) -> Iterator[tuple[torch.Tensor, float | None]]:
        probabilities = self.processor.post_process_semantic_segmentation(
            outputs,
            target_sizes=[(request.image.height, request.image.width) for request in requests],
            return_probabilities=True,
        )
        judged = outputs.presence_logits
        presences = [None] * len(requests) if judged is None else judged.float().sigmoid().tolist()
        return zip(probabilities, presences, strict=True)

    def _encoded(self, notes: list[str | None]) -> dict[str, torch.Tensor]:
        """Hidden states of the notes and their mask."""
        with warnings.catch_warnings():
            for category in (NoteTooLongWarning, NoteNotNormalisedWarning):
                warnings.simplefilter("ignore", category)  # said when the note was checked
            tokens = self.processor.tokenize(notes, "pt")
        ids, mask = tokens["input_ids"], tokens["attention_mask"]
        names = [tuple(row) for row in without_padding(ids, mask).tolist()]
        # Of no note there is nothing to encode.
        new = [place for place, name in enumerate(names) if name not in self._notes and notes[place] is not None]
        new = list({names[place]: place for place in new}.values())
        if new:
            states = self.model.encode_text(ids[new].to(self.model.device), mask[new].to(self.model.device))
            self._notes |= zip((names[place] for place in new), states, strict=True)
        known = [self._notes.get(name) for name in names]
        for name in names:
            if name in self._notes:
                self._notes.move_to_end(name)
        while len(self._notes) > NOTES_KEPT:
            self._notes.popitem(last=False)
        length = ids.shape[1]
        nothing = torch.zeros(length, self.model.text_encoder.width, device=self.model.device, dtype=self.model.dtype)
        return {
            "text_hidden_states": torch.stack([nothing if states is None else states for states in known]),
            "attention_mask": mask.to(self.model.device),
        }
