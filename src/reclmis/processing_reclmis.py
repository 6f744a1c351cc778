"""Image and note -> tensors; logits -> mask."""

import warnings
from collections.abc import Iterable
from typing import Any, Literal

import torch
from transformers import AutoTokenizer, BatchFeature, ProcessorMixin

from .configuration_reclmis import RecLMISConfig
from .image_processing_reclmis import RecLMISImageProcessor
from .text.clip import PAPER_WEIGHTS


class NoteTooLongWarning(UserWarning):
    """Notes were cut. The message says how many tokens were lost."""


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
        **kwargs: Any,
    ) -> None:
        if on_long_note not in ("warn", "raise"):
            raise ValueError(f"`on_long_note` must be 'warn' or 'raise', got {on_long_note!r}.")
        super().__init__(image_processor, tokenizer, **kwargs)
        self.max_length = max_length
        self.on_long_note = on_long_note
        self.pad_token_id = pad_token_id
        self.note_min_words = note_min_words
        self.note_filler = note_filler

    def __call__(
        self, images: Any = None, text: Any = None, segmentation_maps: Any = None, return_tensors=None, **kwargs: Any
    ) -> BatchFeature:
        """Prepares a batch.

        Args:
            images: one or a list of PIL images, arrays `[H, W]`, `[H, W, C]` or `[C, H, W]`, or tensors.
            text: one note or a list of notes, as many as images.
            segmentation_maps: one or a list of `[H, W]` class indices, of their images' sizes.
            return_tensors: `"pt"` for tensors.
            kwargs: options of the image processor for this call.

        Returns:
            `pixel_values` `[B, C, H, W]`, `input_ids` and `attention_mask` `[B, max_length]`, `labels` `[B, H, W]`, as
            far as asked for.

        Raises:
            TypeError: a note that is no string.
            ValueError: unequal numbers, a mask that does not fit its image, or a note too long in strict mode.
        """
        if images is None and text is None:
            raise ValueError("Pass images, notes (`text`), or both.")
        data: dict[str, Any] = {}
        if images is not None:
            data.update(
                self.image_processor(images, segmentation_maps=segmentation_maps, return_tensors=return_tensors, **kwargs)
            )
        if text is not None:
            notes = [text] if isinstance(text, str) else list(text)
            if images is not None and len(notes) != len(data["pixel_values"]):
                raise ValueError(f"{len(data['pixel_values'])} images, but {len(notes)} notes.")
            data.update(self.tokenize(notes, return_tensors=return_tensors))
        return BatchFeature(data=data)

    def tokenize(self, notes: list[str], return_tensors: str | None = None) -> dict[str, Any]:
        """Notes -> `input_ids` and `attention_mask` `[B, max_length]`."""
        for index, note in enumerate(notes):
            if not isinstance(note, str):
                raise TypeError(f"Note {index} is {note!r}, not a string; an image without a note takes ''.")
        encoded = self.tokenizer([self._filled(note) for note in notes], padding=False, truncation=False, verbose=False)
        ids = list(encoded["input_ids"])
        long = [index for index, tokens in enumerate(ids) if len(tokens) > self.max_length]
        if long:
            self._report_long([len(ids[index]) - self.max_length for index in long], notes[long[0]])
            cut = self.tokenizer(
                [self._filled(notes[index]) for index in long],
                padding=False,
                truncation=True,
                max_length=self.max_length,
            )["input_ids"]
            for index, tokens in zip(long, cut, strict=True):
                ids[index] = tokens
        pad = self.pad_token_id if self.pad_token_id is not None else (self.tokenizer.pad_token_id or 0)
        data = {
            "input_ids": [[*tokens, *[pad] * (self.max_length - len(tokens))] for tokens in ids],
            "attention_mask": [[1] * len(tokens) + [0] * (self.max_length - len(tokens)) for tokens in ids],
        }
        return {key: torch.tensor(value) for key, value in data.items()} if return_tensors == "pt" else data

    def post_process_semantic_segmentation(self, outputs: Any, **kwargs: Any) -> list[torch.Tensor]:
        """See [`RecLMISImageProcessor.post_process_semantic_segmentation`]."""
        return self.image_processor.post_process_semantic_segmentation(outputs, **kwargs)

    @property
    def model_input_names(self) -> list[str]:
        return ["pixel_values", "input_ids", "attention_mask"]

    @classmethod
    def from_model_config(
        cls, config: RecLMISConfig, notes: Iterable[str] | None = None, stride: int = 16
    ) -> "RecLMISProcessor":
        """The processor that a model of this configuration needs.

        Args:
            config: of the model.
            notes: training notes, from which the tokenizer of the text encoder `tokens` is learned.
            stride: the model's `backbone_stride`, to which images are padded.

        Raises:
            ValueError: no notes for `tokens`, or a tokenizer with more ids than the text encoder.
            OSError: a pretrained tokenizer that is neither here nor reachable.
        """
        statistics = _pretrained_statistics(config)
        image_processor = RecLMISImageProcessor(
            size={"height": config.image_size, "width": config.image_size},
            pad_size_divisor=stride,
            num_channels=config.num_channels,
            **statistics,
        )
        tokenizer = _build_tokenizer(config, notes)
        vocab_size = config.text_config.get("vocab_size")
        if vocab_size is not None and len(tokenizer) > vocab_size:
            raise ValueError(
                f"The tokenizer has {len(tokenizer)} ids, but `text_config['vocab_size']` is {vocab_size}; raise it."
            )
        pad = 0 if config.text_encoder == "clip" else None
        return cls(image_processor, tokenizer, max_length=config.max_text_length, pad_token_id=pad)

    def _filled(self, note: str) -> str:
        missing = (self.note_min_words or 0) - len(note.split())
        return note + self.note_filler * max(missing, 0)

    def _report_long(self, dropped: list[int], first: str) -> None:
        message = (
            f"{len(dropped)} note(s) longer than max_length = {self.max_length} tokens; {sum(dropped)} token(s) dropped "
            f"in all, {max(dropped)} at the most. The first: {first[:60]!r}..."
        )
        if self.on_long_note == "raise":
            raise ValueError(f"{message} Shorten it, or raise `max_length` and the model's `max_text_length`.")
        warnings.warn(message, NoteTooLongWarning, stacklevel=4)


def _build_tokenizer(config: RecLMISConfig, notes: Iterable[str] | None):
    source, _, name = config.text_encoder.partition(":")
    if source == "tokens":
        from .text.note_tokenizer import build_note_tokenizer

        if notes is None:
            raise ValueError("The text encoder 'tokens' learns its tokenizer from the training notes: pass `notes`.")
        vocab_size = config.text_config.get("vocab_size", 4096)
        return build_note_tokenizer(notes, vocab_size=vocab_size, max_length=config.max_text_length)
    if source == "clip":
        return load_clip_tokenizer()
    pretrained = config.text_config.get("pretrained")
    return AutoTokenizer.from_pretrained(pretrained if isinstance(pretrained, str) else name)


def load_clip_tokenizer(source: str = PAPER_WEIGHTS):
    """CLIP's byte-pair tokenizer: from the Hub's cache, else from the vocabulary inside open_clip, else from the Hub.

    Raises:
        OSError: none of the three is there.
    """
    from transformers import CLIPTokenizer

    try:
        return CLIPTokenizer.from_pretrained(source, local_files_only=True)
    except OSError:
        pass  # not in the cache: the other two sources follow, and the last one raises
    try:
        from .text.clip_vocabulary import open_clip_tokenizer

        return open_clip_tokenizer()
    except ImportError:
        pass  # the extra is not installed
    try:
        return CLIPTokenizer.from_pretrained(source)
    except OSError as error:
        raise OSError(
            f"CLIP's tokenizer is neither cached nor reachable ({source}). Connect once, or install the vocabulary with "
            "`pip install reclmis[clip]`."
        ) from error


def _pretrained_statistics(config: RecLMISConfig) -> dict[str, Any]:
    """A pretrained timm backbone keeps the mean and deviation that it was trained with."""
    source, _, name = config.visual_backbone.partition(":")
    if source != "timm" or not config.visual_config.get("pretrained"):
        return {}
    import timm

    settings = timm.get_pretrained_cfg(name)
    return {"do_normalize": True, "image_mean": list(settings.mean), "image_std": list(settings.std)}


__all__ = ["NoteTooLongWarning", "RecLMISProcessor", "load_clip_tokenizer"]
