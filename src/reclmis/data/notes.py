"""What a note says of places. "left" in these corpora is the left of the image, not of the patient.

The grammar is that of QaTa-COV19 and MosMedData+: extent, finding, number of infected areas, and places as heights
followed by a side. Words that ran together ("lowerleft", "infectiontwo") and words off by one letter ("midlle") count.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from string import ascii_lowercase

SIDES = ("left", "right")
ZONES = ("upper", "middle", "lower")
Zone = tuple[str, str]

_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_TENS = frozenset({"twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"})
# What a run of letters may consist of. Longer words first, as the first that fits is taken.
_MEANINGS = {
    **{word: word for word in (*SIDES, *ZONES, "all", "lung")},
    **{"lungs": "lung", "ung": "lung", "higher": "upper", "uooer": "upper"},
    **{"both": "both", "bilaterally": "both"},
    **dict.fromkeys(("areas", "area", "infected", "sided", "side", "most", "and", "the", "of", "in", "l"), ""),
}
_PIECE = re.compile("|".join(sorted(_MEANINGS, key=len, reverse=True)))
_LETTERS = re.compile(r"[^\W\d_]+")
_COUNT = re.compile(r"(?<![^\W_])(\d+)\s*infected|([a-z]+)\s*infected")
_GLUED_COUNT = re.compile(rf"(?:infection|opacity)?({'|'.join(_NUMBERS)})")
_BEFORE_PLACES = re.compile(r".*infected\s*area(?:'s|s)?", re.DOTALL)
# Real words one letter away from a place.
_NO_MISSPELLING = frozenset(
    {"eight", "bright", "fright", "wright", "light", "might", "night", "tight", "fight", "sight", "rights"}
    | {"deft", "heft", "lift", "loft", "let", "lest", "cleft", "felt", "theft", "lefty"}
    | {"power", "tower", "lover", "loser", "mower", "slower", "flower", "lowers", "lowed", "supper", "upped"}
    | {"riddle", "fiddle", "piddle", "meddle", "muddle", "middles"}
)


def _misspellings(word: str) -> Iterator[str]:
    """Everything one letter away: left out, put in, replaced, or two swapped."""
    for i in range(len(word) + 1):
        head, tail = word[:i], word[i:]
        yield head + tail[1:]
        yield head + tail[1:2] + tail[:1] + tail[2:]
        for letter in ascii_lowercase:
            yield head + letter + tail
            yield head + letter + tail[1:]


_MISSPELT = {
    wrong: word
    for word in (*SIDES, *ZONES)
    for wrong in _misspellings(word)
    if wrong not in _NO_MISSPELLING and wrong not in _MEANINGS
}

# Words that contain a side and name none; a mirror leaves them as they are.
_NO_SIDE = re.compile(r"bright\w*|upright|copyright\w*|alright|outright|forthright|cleft\w*|leftover\w*", re.IGNORECASE)
_ABBREVIATION = r"\b[LR]\b|\b(?i:[lr][lmu]l|lt|rt|o[ds])\b"
# Sides that no swap of "left" and "right" makes true, and anatomy of which the other side has no counterpart.
_MIRROR_FALSIFIES = re.compile(
    rf"{_ABBREVIATION}|(?i:\bwest|\beast|nasal|temporal|clockwise|o'?clock|\bheart\b|cardiac|\bliver\b|hepatic|stomach|"
    r"gastric|spleen|aort|lingula|azygos|middle lobe|minor fissure|sinist|dext)"
)
_VERTICAL = re.compile(
    r"upper|uooer|lower|middle|higher (?:left|right|middle|lower)|\btop|bottom|above|below|beneath|\bunder|\bover\b|"
    r"superior|inferior|crani|cauda|apex|apical|\bbas(?:al|ilar|e|es)\b|north|south|\bup\b|\bdown|upward|"
    r"clockwise|o'?clock|diaphragm|costophrenic|clavic|shoulder|abdom|heart|\bliver\b|stomach|"
    rf"{_ABBREVIATION}",
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

    Sides that ran together with their neighbour ("lowerleft") are swapped too. `None` where no swap makes the note
    certainly true: a misspelt side ("rigth"), one within a word of unknown meaning, an abbreviation ("R", "LLL", "OD"),
    a strange case ("LEft"), compass points and clock positions, and anatomy that only one side has (heart, liver,
    middle lobe).
    """
    if _MIRROR_FALSIFIES.search(note) or any(_is_unclear_side(word) for word in _LETTERS.findall(note)):
        return None
    mirrored = _LETTERS.sub(lambda word: _swap_sides(word[0]), note)
    return mirrored if _LETTERS.sub(lambda word: _swap_sides(word[0]), mirrored) == note else None


@lru_cache(maxsize=65536)
def note_survives(note: str, operation: str) -> bool:
    """Whether the note stays true, rewritten where [`mirror_note`] can, under an operation on the image.

    Args:
        note: as written.
        operation: `"mirror"`; `"flip_vertical"`, which any word for a height forbids, and anatomy of a known place; or
            `"rotate90"`, a quarter turn either way, which any word for a place or direction forbids.

    Raises:
        ValueError: another operation.
    """
    if operation == "mirror":
        return mirror_note(note) is not None
    if operation not in ("flip_vertical", "rotate90"):
        raise ValueError(f"No operation {operation!r}; there are mirror, flip_vertical and rotate90.")
    meant = {_MISSPELT.get(word) for word in _LETTERS.findall(note.lower())}
    if _VERTICAL.search(note) or meant & set(ZONES):
        return False
    return operation == "flip_vertical" or not (_DIRECTION.search(_NO_SIDE.sub("", note)) or meant & set(SIDES))


def note_zones(note: str) -> frozenset[Zone]:
    """Zones `(side, height)` that a note in the corpora's grammar names; empty when it names none.

    Heights bind to the next side: "middle lower right lung" is two zones. A side without heights, or with "all", is all
    of its lung; "right left lung" is both. MosMedData+ has notes such as "Unilateral ..., one infected areas, left lung
    and middle right lung", whose first place is an empty slot: in a unilateral note, a side without heights beside one
    with heights names nothing.
    """
    places = _places(note)
    if note.lstrip().lower().startswith("unilateral") and len({side for side, _ in places}) > 1:
        places = [place for place in places if place[1]] or places
    return frozenset((side, height) for side, heights in places for height in heights or ZONES)


def note_count(note: str) -> int | None:
    """How many infected areas the note states, in words up to twelve or digits; `None` when it states no number, or
    two that differ."""
    note = note.lower()
    found = set()
    for match in _COUNT.finditer(note):
        digits, word = match.groups()
        glued = _GLUED_COUNT.fullmatch(word or "")
        if glued:
            found.add(_NUMBERS.index(glued[1]))
        elif digits:
            found.add(int(digits))
        if glued or digits:
            before = next(iter(_LETTERS.findall(note[: match.start()])[-1:]), "")
            if before in _TENS:
                return None
            if before in _NUMBERS:
                found.add(_NUMBERS.index(before))
    return found.pop() if len(found) == 1 else None


def _places(note: str) -> list[tuple[str, frozenset[str]]]:
    """Every side that is named, with the heights that bind to it, in order."""
    places: list[tuple[str, frozenset[str]]] = []
    heights: set[str] = set()
    sides: list[str] = []

    def close() -> None:
        if sides:
            places.extend((side, frozenset(heights)) for side in sides)
            sides.clear()
            heights.clear()

    for meaning in _meanings(_BEFORE_PLACES.sub("", note.lower())):
        if meaning in SIDES:
            sides.append(meaning)
        elif meaning == "both":
            sides.extend(SIDES)
        elif meaning == "lung":
            close()
        else:
            close()
            heights.update(ZONES if meaning == "all" else [meaning])
    close()
    return places


def _meanings(text: str) -> Iterator[str]:
    """What the words of a lower-case text mean for places, run-together and misspelt ones included."""
    for word in _LETTERS.findall(text):
        pieces = _pieces(word) or [_MISSPELT.get(word, "")]
        yield from (meaning for meaning in (_MEANINGS.get(piece, piece) for piece in pieces) if meaning)


def _pieces(word: str) -> list[str] | None:
    """The known words that a lower-case run of letters consists of, if it consists of nothing else."""
    pieces = _PIECE.findall(word)
    return pieces if "".join(pieces) == word else None


def _is_unclear_side(word: str) -> bool:
    word = word.lower()
    if _MISSPELT.get(word) in SIDES:
        return True
    return ("left" in word or "right" in word) and not _NO_SIDE.fullmatch(word) and _pieces(word) is None


def _swap_sides(word: str) -> str:
    if _NO_SIDE.fullmatch(word):
        return word
    return re.sub("left|right", lambda side: _swapped(side[0]), word, flags=re.IGNORECASE)


def _swapped(side: str) -> str:
    other = "right" if side.lower() == "left" else "left"
    if side.isupper():
        return other.upper()
    return other.capitalize() if side[0].isupper() else other
