"""A tokenizer learned from the notes of a training set, for the text encoder `tokens`."""

from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

PAD, START, END = "<pad>", "<start>", "<end>"


def build_note_tokenizer(
    notes: Iterable[str], *, vocab_size: int = 4096, max_length: int = 32
) -> PreTrainedTokenizerFast:
    """Byte-level BPE over lower-cased, NFKC-normalised notes.

    It knows every byte, so no note of any language holds an unknown token; words that occur at least twice become one
    token, as far as the vocabulary reaches. The same notes in any order give the same tokenizer. An empty note is two
    tokens, start and end.

    Args:
        notes: training notes, repeated as they are: frequent pairs are merged first.
        vocab_size: most ids, at least 259 (the bytes and three special tokens).
        max_length: longest note in tokens, both special tokens included.

    Raises:
        ValueError: no notes, or a vocabulary too small for the bytes.
    """
    notes = sorted(notes)
    if not notes:
        raise ValueError("A tokenizer is learned from notes, and there are none; pass the training notes.")
    smallest = len(pre_tokenizers.ByteLevel.alphabet()) + 3
    if vocab_size < smallest:
        raise ValueError(f"`vocab_size` must be at least {smallest}, got {vocab_size}.")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[PAD, START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(notes, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, 1), (END, 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=START,
        eos_token=END,
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )


def learn_tokenizer(config: Any, notes: Iterable[str] | None) -> PreTrainedTokenizerFast:
    """The tokenizer of a model whose text encoder has none of its own.

    Raises:
        ValueError: no notes to learn it from.
    """
    if notes is None:
        raise ValueError(
            f"The text encoder {config.text_encoder!r} learns its tokenizer from the training notes: pass `notes`."
        )
    vocab_size = config.text_config.get("vocab_size", 4096)
    return build_note_tokenizer(notes, vocab_size=vocab_size, max_length=config.max_text_length)
