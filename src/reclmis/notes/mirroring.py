"""What a note becomes, or whether it stays true, when its image is turned. The raw text is kept but for its sides."""

import re
from functools import lru_cache
from typing import Literal

from .finding import SIDES
from .lexicon import correct, look_up
from .parser import parse_note

Operation = Literal["mirror", "flip_vertical", "rotate90"]

_LETTERS = re.compile(r"[^\W\d_]+")
# Words that contain a side and name none; a mirror leaves them as they are.
_NO_SIDE = re.compile(r"bright\w*|upright|copyright\w*|alright|outright|forthright|cleft\w*|leftover\w*", re.IGNORECASE)
_SIDE = re.compile("left|right", re.IGNORECASE)
# One letter tells the side: LLL and RUZ, Lt, and a lone capital.
_ABBREVIATED_SIDE = re.compile(r"[LR][ULM]Z|[LR][UL]L|[lr][ulm]z|[lr][ul]l|[LRlr]t|[LR]")
_INITIALS = str.maketrans("LRlr", "RLrl")
# Sides that no swap makes true, and anatomy of which the other side has no counterpart.
_MIRROR_FALSIFIES = re.compile(
    r"\bwest|\beast|nasal|temporal|clockwise|o'?clock|\bheart\b|cardiac|\bliver\b|hepatic|stomach|gastric|spleen|aort|"
    r"lingula|azygos|middle lobe|\brml\b|minor fissure|sinist|dext|\bo[ds]\b",
    re.IGNORECASE,
)
_VERTICAL = re.compile(
    r"upper|lower|middle|higher (?:left|right|middle|lower)|\btop|bottom|above|below|beneath|\bunder|\bover\b|superior|"
    r"inferior|crani|cauda|apex|apical|\bbas(?:al|ilar|e|es)\b|north|south|\bup\b|\bdown|upward|clockwise|o'?clock|"
    r"diaphragm|costophrenic|clavic|shoulder|abdom|heart|\bliver\b|stomach|\b[LR]\b|\b(?i:[lr][lmu][lz]|lt|rt|o[ds])\b",
    re.IGNORECASE,
)
_DIRECTION = re.compile(
    r"left|right|horizontal|vertical|transverse|diagonal|medial|\blateral|\bwest|\beast|nasal|temporal|"
    r"\brows?\b|\bcolumns?\b",
    re.IGNORECASE,
)


@lru_cache(maxsize=65536)
def mirror_note(note: str) -> str | None:
    """The note of the mirrored image: left and right swapped, everything else and the case as it was. Its own inverse.

    Sides that ran together with their neighbour ("lowerleft") and abbreviations ("RUL", "L lung") are swapped too, and
    what [`parse_note`] reads from the result is the mirrored finding. `None` where no swap makes the note certainly
    true: a misspelt side ("rigth"), one within a word of unknown meaning, a strange case ("LEft"), compass points and
    clock positions, and anatomy that only one side has (heart, liver, middle lobe).
    """
    words = _LETTERS.findall(note)
    if _MIRROR_FALSIFIES.search(note) or any(_is_unclear_side(word) for word in words):
        return None
    mirrored = _swapped(note)
    if _swapped(mirrored) != note:
        return None
    before, after = parse_note(note).finding, parse_note(mirrored).finding
    if before is None and {"L", "R"} & set(words):
        return None
    return mirrored if after == (before and before.mirrored()) else None


@lru_cache(maxsize=65536)
def note_survives(note: str, operation: Operation) -> bool:
    """Whether the note stays true, rewritten where [`mirror_note`] can, under an operation on the image.

    Args:
        note: as written.
        operation: `"mirror"`; `"flip_vertical"`, which any word for a height forbids, "all" of a lung's included, and
            anatomy of a known place; or `"rotate90"`, a quarter turn either way, which any place or direction forbids.

    Raises:
        ValueError: another operation.
    """
    if operation == "mirror":
        return mirror_note(note) is not None
    if operation not in ("flip_vertical", "rotate90"):
        raise ValueError(f"No operation {operation!r}; there are mirror, flip_vertical and rotate90.")
    finding = parse_note(note).finding
    if _VERTICAL.search(note) or "height" in _roles(note, besides=("all", "higher", "entire", "whole")):
        return False
    if finding and finding.names_heights:
        return False
    if operation == "flip_vertical":
        return True
    return not (_DIRECTION.search(_NO_SIDE.sub("", note)) or "side" in _roles(note) or (finding and finding.laterality))


def _roles(note: str, besides: tuple[str, ...] = ()) -> set[str]:
    words = [look_up(word) for word in _LETTERS.findall(note) if word.lower() not in besides]
    return {meaning.role for word in words for meaning in word.meanings or ()}


def _is_unclear_side(word: str) -> bool:
    # Capitals may be a side or an acronym: RT-PCR.
    if correct(word.lower()) in SIDES or word in ("LT", "RT"):
        return True
    return bool(_SIDE.search(word)) and not _NO_SIDE.fullmatch(word) and look_up(word).meanings is None


def _swapped(note: str) -> str:
    return _LETTERS.sub(lambda word: _with_other_side(word[0]), note)


def _with_other_side(word: str) -> str:
    if _NO_SIDE.fullmatch(word):
        return word
    if _ABBREVIATED_SIDE.fullmatch(word):
        return word[0].translate(_INITIALS) + word[1:]
    return _SIDE.sub(lambda side: _other(side[0]), word)


def _other(side: str) -> str:
    other = "right" if side.lower() == "left" else "left"
    if side.isupper():
        return other.upper()
    return other.capitalize() if side[0].isupper() else other
