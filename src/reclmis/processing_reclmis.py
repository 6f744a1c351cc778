"""Image and note -> tensors; logits -> mask."""

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from transformers import BatchFeature, ProcessorMixin

from .configuration_reclmis import RecLMISConfig
from .image_processing_reclmis import RecLMISImageProcessor, RecLMISImageProcessorKwargs
from .notes import normalise_note, parse_note
from .registry import text_encoders, visual_backbones
from .text.clip import load_clip_tokenizer
from .vision import build_visual_backbone

# What callers used to transformers may say about truncation, because it is what happens anyway.
_PADDINGS: dict[Any, bool] = {"max_length": False, "longest": True, True: True}


class NoteTooLongWarning(UserWarning):
    """Notes were cut. The message says how many tokens were lost, and of which notes."""


class NoteNotNormalisedWarning(UserWarning):
    """A note went to the tokenizer as written, because the parser does not understand all of it."""


class RecLMISProcessor(ProcessorMixin):
    """Prepares images and notes for [`RecLMISModel`], and turns its logits into masks.

    Notes are padded to `max_length` always, so that every batch has one shape.

    Args:
        image_processor: a [`RecLMISImageProcessor`].
        tokenizer: of the model's text encoder.
        max_length: tokens per note, special tokens included.
        on_long_note: `"warn"` cuts a longer note, keeps its end token, and warns once per call with the number of
            tokens lost; `"raise"` refuses it.
        pad_token_id: what fills up a note; `None` is the tokenizer's own. Released weights want 0.
        note_min_words: notes of fewer words get `note_filler` once per missing word, as released weights expect (9).
        note_filler: text appended per missing word.
        normalise_notes: the tokenizer gets the canonical sentence of each note ([`reclmis.notes.normalise_note`]), so
            that typos and word order make no difference; one that is not wholly understood stays as written, with a
            warning. Train and predict with the same setting; it is saved with the processor.
        null_note: the model has a learned null note, so that a note may be `None`.
    """

    def __init__(
        self,
        image_processor=None,
        tokenizer=None,
        max_length: int = 18,
        on_long_note: Literal["warn", "raise"] = "warn",
        pad_token_id: int | None = None,
        note_min_words: int | None = None,
        note_filler: str = " EOF XXX",
        normalise_notes: bool = False,
        null_note: bool = False,
        **kwargs: Any,
    ) -> None:
        if on_long_note not in ("warn", "raise"):
            raise ValueError(f"`on_long_note` must be 'warn' or 'raise', got {on_long_note!r}.")
        if not isinstance(max_length, int) or max_length < 1:
            raise ValueError(f"`max_length` must be an integer of at least 1, got {max_length!r}.")
        super().__init__(image_processor, tokenizer, **kwargs)
        self.max_length = max_length
        self.on_long_note = on_long_note
        self.pad_token_id = pad_token_id
        self.note_min_words = note_min_words
        self.note_filler = note_filler
        self.normalise_notes = normalise_notes
        self.null_note = null_note

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str | None] | None = None,
        segmentation_maps: Any = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Prepares a batch.

        Args:
            images: one or a list of PIL images, arrays, tensors or paths; see [`RecLMISImageProcessor`].
            text: one note or a list of notes, as many as images. An empty note is allowed: it names nothing. In a list,
                `None` is an image without a note, for models with a null note.
            segmentation_maps: one or a list of `[H, W]` class indices, of their images' sizes.
            kwargs: `return_tensors="pt"` for tensors; options of the image processor for this call, flat or as
                `images_kwargs`; `max_length` and `padding`, flat or in `text_kwargs`. Padding goes to `"max_length"`, or to
                the `"longest"` note of the batch.

        Returns:
            `pixel_values` `[B, C, H, W]` float32, `input_ids` and `attention_mask` `[B, max_length]` int64, `labels`
            `[B, H, W]` int64, as far as asked for.

        Raises:
            TypeError: a note that is no string, or an unknown option.
            ValueError: unequal numbers, a mask that does not fit its image, or a note too long in strict mode.
        """
        if images is None and text is None:
            raise ValueError("Pass images, notes (`text`), or both.")
        if images is None and segmentation_maps is not None:
            raise ValueError("Masks (`segmentation_maps`) need their images.")
        return_tensors, image_options, max_length, trim = self._split_options(kwargs)
        data: dict[str, Any] = {}
        if images is not None:
            prepared = self.image_processor(
                images, segmentation_maps=segmentation_maps, return_tensors=return_tensors, **image_options
            )
            data.update(prepared)
        if text is not None:
            notes = [text] if isinstance(text, str) else list(text)
            if images is not None and len(notes) != len(data["pixel_values"]):
                raise ValueError(f"{len(data['pixel_values'])} images, but {len(notes)} notes.")
            data.update(self.tokenize(notes, return_tensors, max_length, trim=trim, stacklevel=4))
        return BatchFeature(data=data)

    def tokenize(
        self,
        notes: Sequence[str | None],
        return_tensors: str | None = None,
        max_length: int | None = None,
        *,
        trim: bool = False,
        stacklevel: int = 3,
    ) -> BatchFeature:
        """Notes -> `input_ids` and `attention_mask` `[B, max_length]`, as lists or, for `"pt"`, as int64 tensors;
        with `trim` only as long as the longest note. `None` is no note (see `null_note`): a mask of zeros."""
        for index, note in enumerate(notes):
            if note is None and not self.null_note:
                raise TypeError(f"Note {index} is None, and this model was trained with notes only. Give it a note; "
                                "one trained with `note_dropout` above 0 does without.")  # fmt: skip
            if note is not None and not isinstance(note, str):
                raise TypeError(f"Note {index} is {note!r}, not a string.")
            _check_characters(index, note)
        absent = {index for index, note in enumerate(notes) if note is None}
        sentences = [note or "" for note in notes]
        length = self.max_length if max_length is None else max_length
        if self.normalise_notes:
            sentences = _normalised(sentences, stacklevel)
        filled = [self._filled(note) for note in sentences]
        ids = self._token_ids(filled) if filled else []
        dropped = {index: len(tokens) - length for index, tokens in enumerate(ids) if len(tokens) > length}
        if dropped:
            self._report_long(dropped, sentences, length, stacklevel)
            cut = self._token_ids([filled[index] for index in dropped], truncation=True, max_length=length)
            ids = [cut.pop(0) if index in dropped else tokens for index, tokens in enumerate(ids)]
        ids = [tokens or [self._stand_in()] for tokens in ids]
        own_pad = getattr(self.tokenizer, "pad_token_id", None)
        pad = self.pad_token_id if self.pad_token_id is not None else (own_pad or 0)
        if trim:
            length = max(map(len, ids), default=0)
        data = {
            "input_ids": [[*tokens, *[pad] * (length - len(tokens))] for tokens in ids],
            "attention_mask": [
                [0] * length if index in absent else [1] * len(tokens) + [0] * (length - len(tokens))
                for index, tokens in enumerate(ids)
            ],
        }
        return BatchFeature(data=data, tensor_type=return_tensors)

    def post_process_semantic_segmentation(self, outputs: Any, **kwargs: Any) -> list[torch.Tensor]:
        """See [`RecLMISImageProcessor.post_process_semantic_segmentation`]."""
        return self.image_processor.post_process_semantic_segmentation(outputs, **kwargs)

    @property
    def model_input_names(self) -> list[str]:
        return ["pixel_values", "input_ids", "attention_mask"]

    @classmethod
    def from_model_config(
        cls,
        config: RecLMISConfig,
        notes: Iterable[str] | None = None,
        stride: int | None = None,
        normalise_notes: bool = False,
        normalize_per_image: bool = False,
    ) -> "RecLMISProcessor":
        """The processor that a model of this configuration needs.

        Args:
            config: of the model.
            notes: training notes, from which the tokenizer of the text encoder `tokens` is learned.
            stride: the model's `backbone_stride`, to which images are padded; `None` asks the backbone.
            normalise_notes: see the class; a tokenizer that is learned learns the canonical sentences then.
            normalize_per_image: see [`RecLMISImageProcessor`]; in place of a pretrained backbone's mean and deviation.

        Raises:
            ValueError: no notes for `tokens`, or a tokenizer with more ids than the text encoder.
            OSError: a pretrained tokenizer that is neither here nor reachable.
        """
        image_processor = RecLMISImageProcessor(
            size={"height": config.image_size, "width": config.image_size},
            pad_size_divisor=_backbone_stride(config) if stride is None else stride,
            num_channels=config.num_channels,
            num_labels=config.num_labels,
            **({"normalize_per_image": True} if normalize_per_image else _pretrained_statistics(config)),
        )
        if normalise_notes and notes is not None:
            notes = [normalise_note(note) for note in notes]
        tokenizer = _build_tokenizer(config, notes)
        vocab_size = config.text_config.get("vocab_size")
        if vocab_size is not None and len(tokenizer) > vocab_size:
            raise ValueError(
                f"The tokenizer has {len(tokenizer)} ids, but `text_config['vocab_size']` is {vocab_size}; raise it."
            )
        return cls(
            image_processor,
            tokenizer,
            max_length=config.max_text_length,
            pad_token_id=getattr(text_encoders.get(config.text_encoder), "pad_token_id", None),
            normalise_notes=normalise_notes,
            null_note=config.note_dropout > 0,
        )

    def _split_options(self, kwargs: dict[str, Any]) -> tuple[str | None, dict[str, Any], int | None, bool]:
        """Options of a call -> `return_tensors`, those of the image processor, `max_length`, and whether notes are padded to
        the longest of them only."""
        kwargs = dict(kwargs)
        of_images = dict(kwargs.pop("images_kwargs", None) or {})
        of_notes = dict(kwargs.pop("text_kwargs", None) or {})
        kwargs |= kwargs.pop("common_kwargs", None) or {}
        twice = kwargs.keys() & (of_images.keys() | of_notes.keys())
        if twice:
            raise ValueError(f"{', '.join(sorted(twice))} given twice, flat and in `images_kwargs` or `text_kwargs`.")
        return_tensors = kwargs.pop("return_tensors", None)
        known = RecLMISImageProcessorKwargs.__annotations__.keys() | self.image_processor.valid_kwargs.__annotations__
        for name, value in kwargs.items():
            (of_images if name in known else of_notes)[name] = value
        max_length, padding = of_notes.pop("max_length", None), of_notes.pop("padding", "max_length")
        if padding not in _PADDINGS:
            raise ValueError(f"Notes of a batch have one length: `padding` cannot be {padding!r}, but 'max_length' or "
                             "'longest'.")  # fmt: skip
        if of_notes.pop("truncation", True) is not True:
            raise ValueError("Notes are always cut to `max_length`: `truncation` cannot be switched off.")
        if of_notes:
            raise TypeError(
                f"Unknown option {next(iter(of_notes))!r}. Notes know `max_length` and `padding`; images know "
                f"{', '.join(sorted(known))}."
            )
        return return_tensors, of_images, max_length, _PADDINGS[padding]

    def _token_ids(self, notes: list[str], **options: Any) -> list[list[int]]:
        # `verbose` silences the tokenizer's own remark on long notes; ours names what is lost.
        return list(
            self.tokenizer(notes, padding=False, verbose=False, **{"truncation": False, **options})["input_ids"]
        )

    def _stand_in(self) -> int:
        """The token of an empty note under a tokenizer that adds none of its own: a note has at least one real token,
        as attention over none is undefined."""
        for name in ("eos_token_id", "sep_token_id", "bos_token_id", "cls_token_id", "pad_token_id"):
            token = getattr(self.tokenizer, name, None)
            if token is not None:
                return token
        raise ValueError(
            f"{type(self.tokenizer).__name__} makes no token of an empty note and has no special token to stand in; "
            "give it one, for example `tokenizer.add_special_tokens({'eos_token': '</s>'})`."
        )

    def _filled(self, note: str) -> str:
        missing = (self.note_min_words or 0) - len(note.split())
        return note + self.note_filler * max(missing, 0)

    def _report_long(self, dropped: dict[int, int], notes: list[str], length: int, stacklevel: int) -> None:
        first = next(iter(dropped))
        each = ", ".join(f"note {index}: {count}" for index, count in list(dropped.items())[:5])
        total = sum(dropped.values())
        message = (
            f"{len(dropped)} of {len(notes)} note(s) exceed {length} tokens, by {total} token(s) in all "
            f"({each}{', ...' if len(dropped) > 5 else ''}). Note {first} begins {notes[first][:60]!r}."
        )
        if self.on_long_note == "raise":
            raise ValueError(f"{message} Shorten it, or raise `max_length` and the model's `max_text_length`.")
        warnings.warn(f"{message} Those tokens were dropped.", NoteTooLongWarning, stacklevel=stacklevel)


def _check_characters(index: int, note: str | None) -> None:
    """JSON may hold halves of a surrogate pair, which no tokenizer can read."""
    broken = [letter for letter in note or "" if "\ud800" <= letter <= "\udfff"]
    if broken:
        raise ValueError(f"Note {index} holds {broken[0]!r}, half of a character. Send the note as valid Unicode.")


def _normalised(notes: list[str], stacklevel: int) -> list[str]:
    for note in dict.fromkeys(notes):
        parsed = parse_note(note)
        reasons = [*parsed.contradictions, *(f"{word!r} is not understood" for word in parsed.not_understood)]
        reasons += [f"it denies {' '.join(parsed.negated)!r} as well"] if parsed.negated else []
        if reasons:
            message = f"The note {note!r} stays as written: {'; '.join(reasons)}."
            warnings.warn(message, NoteNotNormalisedWarning, stacklevel=stacklevel)
    return [normalise_note(note) for note in notes]


def _build_tokenizer(config: RecLMISConfig, notes: Iterable[str] | None) -> Any:
    build = getattr(text_encoders.get(config.text_encoder), "build_tokenizer", None)
    if build is None:
        raise ValueError(
            f"The text encoder {config.text_encoder!r} brings no tokenizer: give its builder a function "
            "`build_tokenizer(config, notes)`, or construct `RecLMISProcessor(image_processor, tokenizer)` yourself."
        )
    return build(config, notes)


def _backbone_stride(config: RecLMISConfig) -> int:
    with torch.device("meta"):
        backbone = build_visual_backbone(
            config.visual_backbone,
            num_channels=config.num_channels,
            image_size=config.image_size,
            **config.visual_config,
        )
    return int(backbone.strides[-1])  # type: ignore[index, arg-type]


def _pretrained_statistics(config: RecLMISConfig) -> dict[str, Any]:
    """A pretrained backbone keeps the mean and deviation that it was trained with, if its builder knows them."""
    read = getattr(visual_backbones.get(config.visual_backbone), "pretrained_statistics", None)
    if read is None or not config.visual_config.get("pretrained"):
        return {}
    mean, std = read(config.visual_backbone.partition(":")[2], config.num_channels)
    return {"do_normalize": True, "image_mean": mean, "image_std": std}


__all__ = ["NoteNotNormalisedWarning", "NoteTooLongWarning", "RecLMISProcessor", "load_clip_tokenizer"]
