"""Notes that say something else, or the same in other words: what shows whether a mask follows its note.

Every function takes a note and gives another one, or `None` where the note cannot be altered that way. What is random is a
function of the note and a seed.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from zlib import crc32

import numpy as np

from .finding import SIDES, Finding
from .lexicon import LEXICON, look_up
from .mirroring import mirror_note
from .parser import parse_note
from .writing import paraphrases

_LETTERS = re.compile(r"[^\W\d_]+")
_WORDS = re.compile(r"[^\W_]+")
_HEIGHT = re.compile("upper|lower", re.IGNORECASE)
# Words that name the upper or the lower part without saying so.
_OPPOSITES = {"apical": "basal", "apex": "base", "apices": "bases", "biapical": "bibasal"}
_OPPOSITES |= {low: high for high, low in _OPPOSITES.items()}
# RUL and LLZ; the middle letter is the height.
_ABBREVIATED_HEIGHT = re.compile(r"[LRlr][ULul][LZlz]")
_INITIALS = str.maketrans("ULul", "LUlu")
_SHORTEST_MISSPELT = 4
_SHARE_GLUED = 0.1
_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_TRIES = 40


def side_swapped(note: str) -> str | None:
    """Left and right exchanged, as [`mirror_note`] does; `None` also where that changes nothing of what is said: notes of
    the same on both sides, of no side, and notes that the parser does not understand."""
    swapped = mirror_note(note)
    before = parse_note(note).finding
    return swapped if swapped is not None and before is not None and before.mirrored() != before else None


def zone_swapped(note: str) -> str | None:
    """Upper and lower exchanged, everything else and the case as it was. Its own inverse.

    `None` where that changes nothing of what is said ("all", "middle", no height), where a word for a height has no
    opposite here ("lowe", "bibasilar"), and for notes that the parser does not understand.
    """
    swapped = _LETTERS.sub(lambda word: _with_other_height(word[0]), note)
    before, after = parse_note(note).finding, parse_note(swapped).finding
    if before is None or after == before or _LETTERS.sub(lambda word: _with_other_height(word[0]), swapped) != note:
        return None
    return swapped if after == _upside_down(before) else None


def paraphrased(note: str, seed: int) -> str | None:
    """The same finding in another of the sentences of [`paraphrases`]; `None` unless the parser understands all of the
    note."""
    parsed = parse_note(note)
    if parsed.finding is None or parsed.status != "complete":
        return None
    others = (text for text in paraphrases(parsed.finding, 2, _key(note, seed)) if text.lower() != note.lower())
    return next(others, None)


def word_order_shuffled(note: str, seed: int) -> str | None:
    """The same words in another order, between the marks that were there. What it says then is nobody's claim. `None` for
    fewer than two different words."""
    words = _WORDS.findall(note)
    if len({word.lower() for word in words}) < 2:
        return None
    draw = np.random.default_rng(_key(note, seed))
    moved = words
    while moved == words:
        moved = [words[index] for index in draw.permutation(len(words))]
    rest = iter(moved)
    return _WORDS.sub(lambda _: next(rest), note)


def with_typos(note: str, seed: int, count: int = 2) -> str | None:
    """The note with `count` misspelt words, or as many as can be: two letters swapped, one left out, doubled or hit on the
    key beside it, or the space before the word left out, as in the field's notes ("lowe", "uooer", "oneinfected").

    The parser reads the same finding from it, so no side, height or number became another; in a note that it does not
    understand, words that it knows still mean the same. Words of fewer than four letters stay. `None` where nothing can be
    misspelt.

    Raises:
        ValueError: `count` is less than 1.
    """
    if count < 1:
        raise ValueError(f"`count` is the number of misspelt words, at least 1, got {count}.")
    draw = np.random.default_rng(_key(note, seed))
    finding = parse_note(note).finding
    # Words at odd places, what is between them at even ones.
    parts = re.split(f"({_LETTERS.pattern})", note)
    untouched = [place for place in range(1, len(parts), 2) if len(parts[place]) >= _SHORTEST_MISSPELT]
    misspelt = 0
    for _ in range(_TRIES * count):
        if misspelt == count or not untouched:
            break
        place = untouched[int(draw.integers(len(untouched)))]
        attempt = _misspelt_at(parts, place, draw)
        if attempt is not None and parse_note("".join(attempt)).finding == finding:
            misspelt += 1
            touched = (place, place - 2) if attempt[place - 1] != parts[place - 1] else (place,)
            untouched, parts = [place for place in untouched if place not in touched], attempt
    return "".join(parts) if misspelt else None


def _with_other_height(word: str) -> str:
    if word.lower() in _OPPOSITES:
        return _in_case_of(word, _OPPOSITES[word.lower()])
    if _ABBREVIATED_HEIGHT.fullmatch(word) and look_up(word).meanings:
        return word[0] + word[1].translate(_INITIALS) + word[2]
    # "flower" holds no height; "lowerleft" does.
    if look_up(word).meanings is None:
        return word
    return _HEIGHT.sub(lambda height: _in_case_of(height[0], _other(height[0])), word)


def _other(height: str) -> str:
    return "upper" if height.lower() == "lower" else "lower"


def _in_case_of(written: str, word: str) -> str:
    if written.isupper():
        return word.upper()
    return word.capitalize() if written[0].isupper() else word


def _upside_down(finding: Finding) -> Finding:
    def turned(heights: frozenset[str] | None) -> frozenset[str] | None:
        if heights is None:
            return None
        return frozenset(height if height == "middle" else _other(height) for height in heights)

    return replace(finding, **{side: turned(finding.heights(side)) for side in SIDES})  # type: ignore[arg-type]


def _misspelt_at(parts: list[str], place: int, draw: np.random.Generator) -> list[str] | None:
    """The parts with one word misspelt; `None` where the misspelling is no other word, or is one of the lexicon."""
    word = parts[place]
    if place > 1 and parts[place - 1] == " " and draw.random() < _SHARE_GLUED:
        return [*parts[: place - 1], "", *parts[place:]]
    wrong = _TYPOS[int(draw.integers(len(_TYPOS)))](word, draw)
    known = LEXICON.get(word.lower())
    if wrong.lower() == word.lower() or wrong.lower() in LEXICON:
        return None
    if known and known[0].role in ("side", "height") and look_up(wrong).meanings != known:
        return None
    return [*parts[:place], wrong, *parts[place + 1 :]]


# The first letter stays, as it does in most misspellings that people make.
def _letters_swapped(word: str, draw: np.random.Generator) -> str:
    place = int(draw.integers(1, len(word) - 1))
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


def _letter_left_out(word: str, draw: np.random.Generator) -> str:
    place = int(draw.integers(1, len(word)))
    return word[:place] + word[place + 1 :]


def _letter_doubled(word: str, draw: np.random.Generator) -> str:
    place = int(draw.integers(1, len(word)))
    return word[:place] + word[place] + word[place:]


def _key_beside(word: str, draw: np.random.Generator) -> str:
    place = int(draw.integers(1, len(word)))
    row = next((row for row in _KEYS if word[place] in row), word[place])
    beside = min(max(row.index(word[place]) + int(draw.choice([-1, 1])), 0), len(row) - 1)
    return word[:place] + row[beside] + word[place + 1 :]


_TYPOS: tuple[Callable[[str, np.random.Generator], str], ...] = (
    _letters_swapped, _letter_left_out, _letter_doubled, _key_beside,
)  # fmt: skip


def _key(note: str, seed: int) -> int:
    """A seed of the note's own."""
    return crc32(f"{seed}\0{note}".encode())
