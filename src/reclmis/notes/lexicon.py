"""The words that notes are made of, and what they mean here. One table; nothing about a word is said elsewhere.

A word that the table lacks is read as table words that ran together ("lowerleft", "oneinfected"), else as the one word a
letter away from it ("midlle": a letter left out, put in, replaced, or two swapped). Words of other meaning which such
readings would catch are listed, and stay unknown.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from string import ascii_lowercase
from typing import NamedTuple

from .finding import SIDES, ZONES


class Meaning(NamedTuple):
    """`role` is what a word does in a note's grammar, `value` what it says."""

    role: str
    value: str | int = ""


@dataclass(frozen=True)
class Word:
    """A word as written, what it means (nothing: filler; `None`: unknown), and as which words it was read if misspelt."""

    text: str
    meanings: tuple[Meaning, ...] | None
    read_as: str | None = None


NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_FILLER = (
    "a an the of in on at is are was were with within there has have seen noted present show shows showing"
    " involving affecting covid covid19 sided side sides most part parts portion it which only sign signs evidence any"
)
_BOTH = tuple(Meaning("side", side) for side in SIDES)


def _said(role: str, value: str, words: str) -> dict[str, tuple[Meaning, ...]]:
    return dict.fromkeys(words.split(), (Meaning(role, value),))


_HEIGHTS = {
    "upper": "upper higher apical apex apices",
    "middle": "middle mid perihilar hilar",
    "lower": "lower basal basilar basilary base bases",
}
_KINDS = {
    "pulmonary infection": "infection infections",
    "pulmonary opacity": "opacity opacities opacification opacifications",
    "ground-glass opacity": "groundglass ggo ggos",
    "consolidation": "consolidation consolidations",
    "infiltrate": "infiltrate infiltrates infiltration infiltrations",
    "pneumonia": "pneumonia pneumonias",
}
_ABBREVIATED_HEIGHT = {"u": "upper", "m": "middle", "l": "lower"}
_ABBREVIATED_SIDE = {"l": "left", "r": "right"}

LEXICON: dict[str, tuple[Meaning, ...]] = {
    **dict.fromkeys(_FILLER.split(), ()),
    **{word: (Meaning("side", word),) for word in SIDES},
    **_said("side", "left", "lt leftward leftwards"),
    **_said("side", "right", "rt rightward rightwards"),
    **dict.fromkeys(("both", "bilaterally"), _BOTH),
    **{word: (Meaning("height", height),) for height, words in _HEIGHTS.items() for word in words.split()},
    "all": tuple(Meaning("height", height) for height in ZONES),
    **dict.fromkeys(("entire", "whole"), tuple(Meaning("height", height) for height in ZONES)),
    **{f"bi{word}": (*_BOTH, Meaning("height", height), Meaning("lung"))
       for height, words in _HEIGHTS.items() for word in words.split() if word.endswith(("al", "lar"))},
    **{side + height + lobe: (Meaning("side", _ABBREVIATED_SIDE[side]), Meaning("height", _ABBREVIATED_HEIGHT[height]),
                              Meaning("lung"))
       for side in "lr" for height in "uml" for lobe in "lz" if side + height + lobe != "lml"},
    **_said("lung", "", "lung lungs lobe lobes zone zones field fields hemithorax"),
    **{word: (Meaning("number", value),) for value, word in enumerate(NUMBERS)},
    **{word: (Meaning("tens", 10 * value),) for value, word in enumerate(_TENS, start=2)},
    **_said("chest", "", "pulmonary chest thorax thoracic"),
    **_said("infected", "", "infected"),
    **_said("area", "", "area areas region regions focus foci lesion lesions"),
    **{word: (Meaning("kind", kind),) for kind, words in _KINDS.items() for word in words.split()},
    **_said("laterality", "unilateral", "unilateral unilaterally"),
    **_said("laterality", "bilateral", "bilateral"),
    **_said("and", "", "and or plus"),
    **_said("comma", "", ","),
    **_said("end", "", ". ; : ! ?"),
    **_said("stop", "", "but however although"),
    **_said("not", "", "no not without absent absence negative"),
    **_said("well", "", "clear normal unremarkable"),
}  # fmt: skip

# Seen in the corpora, and further than a letter away.
_MISSPELT = {"uooer": "upper", "ung": "lung", "lun": "lung"}
_CORRECTABLE = (*SIDES, *ZONES, "lungs", "areas", "unilateral", "bilateral", "pulmonary", "infected", "infection",
                "opacity", "consolidation")  # fmt: skip
_NO_MISSPELLING = frozenset(
    {"eight", "bright", "fright", "wright", "light", "might", "night", "tight", "fight", "sight", "rights"}
    | {"deft", "heft", "lift", "loft", "let", "lest", "cleft", "felt", "theft", "lefty", "eft", "weft", "lent"}
    | {
        "power",
        "tower",
        "lover",
        "loser",
        "mower",
        "slower",
        "flower",
        "lowers",
        "lowed",
        "cower",
        "sower",
        "rower",
        "glower",
    }
    | {"supper", "upped", "udder", "riddle", "fiddle", "piddle", "meddle", "muddle", "middles", "diddle", "middled"}
    | {"longs", "lunge", "lunges", "lugs", "lunas", "rungs", "areal", "arenas", "ares", "arias", "aeas", "urea"}
    | {"injected", "infecter", "inflected", "uninfected", "reinfected", "injection", "inflection", "infecting"}
)
# Words that may run together. Not the short ones: "often" is not "of ten".
_GLUED = re.compile(
    "|".join(
        sorted(
            {*SIDES, *ZONES, "all", "and", "lung", "lungs", "side", "sided", "most", "area", "areas", "infected",
             "infection", "opacity", "unilateral", "bilateral", "pulmonary", "l", "the", "of", "in", *NUMBERS[:10]},
            key=len, reverse=True,
        )
    )
)  # fmt: skip
_LONG_PIECE = 4


@lru_cache(maxsize=65536)
def look_up(text: str) -> Word:
    """What one run of letters or digits means."""
    word = re.sub(r"[\s-]", "", text.lower()).removesuffix("'s")
    if text in ("L", "R"):
        return Word(text, (Meaning("side", _ABBREVIATED_SIDE[word]),))
    if text.isascii() and text.isdigit() and len(text) <= 3:
        return Word(text, (Meaning("number", int(word)),))
    if word in LEXICON and text not in ("LT", "RT"):
        return Word(text, LEXICON[word])
    if text == "l":
        # What is left of "lowerl", written apart.
        return Word(text, (), "")
    pieces = pieces_of(word) or tuple(filter(None, [correct(word)]))
    if not pieces:
        return Word(text, None)
    meanings = tuple(meaning for piece in pieces for meaning in LEXICON.get(piece, ()))
    return Word(text, meanings, " ".join(piece for piece in pieces if piece != "l"))


@lru_cache(maxsize=65536)
def pieces_of(word: str) -> tuple[str, ...]:
    """The table words that a lower-case run of letters consists of, if it consists of nothing else.

    At least one has to name a place or a finding, as no chance would make of short words. Numbers run together only with
    "infection" and "infected".
    """
    pieces = tuple(_GLUED.findall(word))
    if len(pieces) < 2 or "".join(pieces) != word or not any(len(piece) >= _LONG_PIECE for piece in pieces):
        return ()
    if set(pieces) & set(NUMBERS) and not {"infected", "infection", "area", "areas"} & set(pieces):
        return ()
    return pieces


def correct(word: str) -> str | None:
    """The table word of which a lower-case run of letters is a misspelling."""
    return _misspellings().get(word)


@lru_cache(maxsize=1)
def _misspellings() -> dict[str, str]:
    readings: dict[str, str] = {}
    for word in _CORRECTABLE:
        for wrong in _one_letter_away(word):
            if wrong not in LEXICON and wrong not in _NO_MISSPELLING:
                readings[wrong] = word
    return {**readings, **_MISSPELT}


def _one_letter_away(word: str) -> Iterator[str]:
    for i in range(len(word) + 1):
        head, tail = word[:i], word[i:]
        yield head + tail[1:]
        yield head + tail[1:2] + tail[:1] + tail[2:]
        for letter in ascii_lowercase:
            yield head + letter + tail
            yield head + letter + tail[1:]
