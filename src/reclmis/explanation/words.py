"""Weights of tokens -> weights of a note's words, whatever the tokenizer calls a token."""

import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

# What a decoder writes for a letter of which a token holds some bytes only.
_INCOMPLETE = "\ufffd"


@dataclass(frozen=True)
class NoteWords:
    """Which tokens make which word.

    Attributes:
        words: of the note as far as it was read, as written; as the tokenizer decodes them where it changed the note.
        tokens: positions of each word's tokens, at least one per word.
        left_out: position and text of the real tokens that are in no word: special tokens, and what a processor appends.
    """

    words: tuple[str, ...]
    tokens: tuple[tuple[int, ...], ...]
    left_out: tuple[tuple[int, str], ...]

    def weighted(self, weights: Sequence[float]) -> list[tuple[str, float]]:
        """Words and the sums of their tokens' weights, for one weight per token."""
        return [
            (word, sum(weights[place] for place in places))
            for word, places in zip(self.words, self.tokens, strict=True)
        ]

    def left_out_weights(self, weights: Sequence[float]) -> list[tuple[str, float]]:
        """What [`weighted`] leaves out, for one weight per token."""
        return [(text, weights[place]) for place, text in self.left_out]

    def sums(self, maps: np.ndarray) -> np.ndarray:
        """One map per token `[L, ...]` -> one per word `[words, ...]`: what its tokens have together."""
        return np.stack([maps[list(places)].sum(axis=0) for places in self.tokens]) if self.words else maps[:0]

    def means(self, maps: np.ndarray) -> np.ndarray:
        """One map per token `[L, ...]` -> one per word `[words, ...]`: that of its average token."""
        return np.stack([maps[list(places)].mean(axis=0) for places in self.tokens]) if self.words else maps[:0]


def words_of(tokenizer: Any, note: str, input_ids: Sequence[int], attention_mask: Sequence[int]) -> NoteWords:
    """The words of a note that was tokenized.

    A word is what stands between blanks; punctuation before and after it is apart, as models weigh it too ("COVID-19," is
    "COVID-19" and ","). Tokens are placed by the letters that the tokenizer decodes before them, so marks of beginnings
    (byte-level, SentencePiece), of ends (CLIP) and of continuations (BERT) are one and the same.

    Args:
        tokenizer: with `decode`, `all_special_ids` and `convert_ids_to_tokens`.
        note: as written.
        input_ids, attention_mask: `[L]`, of this note.
    """
    special = set(tokenizer.all_special_ids)
    real = [place for place, counts in enumerate(attention_mask) if counts]
    places = [place for place in real if input_ids[place] not in special]
    ids = [input_ids[place] for place in places]
    decoded = tokenizer.decode(ids).rstrip(_INCOMPLETE) if ids else ""
    words = _words(note, decoded)
    ends = list(accumulate(len(_letters(word)) for word in words))
    before = [len(_letters(tokenizer.decode(ids[:count]).rstrip(_INCOMPLETE))) if count else 0
              for count in range(len(ids))]  # fmt: skip
    tokens: list[list[int]] = [[] for _ in words]
    for place, start in zip(places, before, strict=True):
        number = bisect_right(ends, start)
        if number < len(words):
            tokens[number].append(place)
    taken = {place for word in tokens for place in word}
    # A note that was cut to length has words that no token reaches.
    read = [number for number, word in enumerate(tokens) if word]
    return NoteWords(
        tuple(words[number] for number in read),
        tuple(tuple(tokens[number]) for number in read),
        tuple((place, _name(tokenizer, input_ids[place], special)) for place in real if place not in taken),
    )


def _words(note: str, decoded: str) -> list[str]:
    """Words as written where the decoded text begins as the note does, or the note as the text does; else as decoded."""
    written, read = _letters(note), _letters(decoded)
    text = note if written.startswith(read) or read.startswith(written) else decoded
    return [part for word in text.split() for part in _parts(word)]


def _parts(word: str) -> list[str]:
    """A word, and the punctuation before and after it."""
    inner = [index for index, letter in enumerate(word) if unicodedata.category(letter)[0] not in "PS"]
    if not inner:
        return [word]
    return [part for part in (word[: inner[0]], word[inner[0] : inner[-1] + 1], word[inner[-1] + 1 :]) if part]


def _letters(text: str) -> str:
    """A text without blanks and case."""
    return "".join("".join(unicodedata.normalize("NFKC", word).lower().split()) for word in text.split())


def _name(tokenizer: Any, token: int, special: set[int]) -> str:
    return tokenizer.convert_ids_to_tokens(token) if token in special else tokenizer.decode([token]).strip()


__all__ = ["NoteWords", "words_of"]
