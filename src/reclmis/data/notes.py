"""What a note says of places. "left" in these corpora is the left of the image, not of the patient."""

import re

SIDES = ("left", "right")
ZONES = ("upper", "middle", "lower")

# Whole words, and words that lost a blank or gained a letter: "lowerl", "lowerleft", "areaslower", "upperlower".
_SPELLINGS = {
    "left": r"left|lefft|letf",
    "right": r"right|rigth|rihgt",
    "upper": r"upper|uooer|uper|upepr",
    "middle": r"middle|midlle|midle|mddle|middel",
    "lower": r"lower|lowe(?!r)|lowre|loewr",
    "all": r"\ball\b|(?<=areas)all|(?<=area)all",
    "lung": r"lungs?",
    "both": r"\bboth\b|\bbilaterally\b",
}
_WORD = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in _SPELLINGS.items()))
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_COUNT = re.compile(rf"({'|'.join(_NUMBERS)})\s*infected", re.IGNORECASE)

# Words that name a side or a height anywhere, also outside the grammar of chest notes.
_HORIZONTAL = re.compile(r"left|lefft|letf|right|rigth|rihgt|\bwest\b|\beast\b|nasal|temporal|clockwise", re.IGNORECASE)
_VERTICAL = re.compile(
    r"upper|uooer|uper|upepr|lower|lowe|lowre|loewr|middle|midlle|midle|mddle|middel|top|bottom|above|below|"
    r"superior|inferior|apex|apical|basal|\bbases?\b|\bnorth\b|\bsouth\b|o'?clock",
    re.IGNORECASE,
)
_SWAPPABLE = re.compile(r"left|right", re.IGNORECASE)
_MIRROR_FALSIFIES = re.compile(
    r"lefft|letf|rigth|rihgt|\bwest\b|\beast\b|nasal|temporal|clockwise|o'?clock|\bcopyright\b|upright|leftover|"
    r"leftward|rightward|bright|\bheart\b|cardiac|\bliver\b",
    re.IGNORECASE,
)


def mirror_note(note: str) -> str | None:
    """The note of the mirrored image: left and right swapped, everything else and the case as it was.

    Its own inverse. `None` where a swap cannot make the note true: misspelt sides, compass points, clock positions,
    words that only contain "left" or "right", and organs that lie on one side.
    """
    if _MIRROR_FALSIFIES.search(note):
        return None

    def swap(match: re.Match[str]) -> str:
        word = match[0]
        other = "right" if word.lower() == "left" else "left"
        if word.isupper():
            return other.upper()
        return other.capitalize() if word[0].isupper() else other

    mirrored = _SWAPPABLE.sub(swap, note)
    # A strangely cased word ("LEft") would not come back: then the note is left alone rather than changed for good.
    return mirrored if _SWAPPABLE.sub(swap, mirrored) == note else None


def note_survives(note: str, operation: str) -> bool:
    """Whether the note stays true, rewritten where [`mirror_note`] can, under `"mirror"`, `"flip_vertical"` or
    `"rotate90"` (any multiple but the full turn).

    Raises:
        ValueError: another operation.
    """
    if operation == "mirror":
        return mirror_note(note) is not None
    if operation == "flip_vertical":
        return not _VERTICAL.search(note) and not re.search(r"clockwise", note, re.IGNORECASE)
    if operation == "rotate90":
        return not _VERTICAL.search(note) and not _HORIZONTAL.search(note)
    raise ValueError(f"No operation {operation!r}; there are mirror, flip_vertical and rotate90.")


def note_zones(note: str) -> frozenset[tuple[str, str]]:
    """Zones `(side, height)` that a note in the grammar of QaTa-COV19 and MosMedData+ names; empty when it names none.

    A note lists places as heights followed by a side: "middle lower right lung" is two zones, "all left lung" is three.
    Heights bind to the next side; a side without heights means the whole lung. "right left lung" is both.
    """
    zones: set[tuple[str, str]] = set()
    heights: set[str] = set()
    pending: list[str] = []
    for match in _WORD.finditer(_places(note)):
        kind = match.lastgroup
        if kind in ZONES:
            if pending:
                _close(zones, pending, heights)
            heights.add(kind)
        elif kind == "all":
            if pending:
                _close(zones, pending, heights)
            heights.update(ZONES)
        elif kind in SIDES:
            pending.append(kind)
        elif kind == "both":
            pending.extend(SIDES)
        elif pending:
            _close(zones, pending, heights)
    _close(zones, pending, heights)
    return frozenset(zones)


def note_count(note: str) -> int | None:
    """How many infected areas the note states, `None` when it states no number."""
    match = _COUNT.search(note)
    return _NUMBERS.index(match[1].lower()) if match else None


def _places(note: str) -> str:
    """The part behind the count of areas, which is where places are listed."""
    note = note.lower()
    match = re.search(r"infected\s*area'?s?", note)
    return note[match.end() :] if match else note


def _close(zones: set[tuple[str, str]], sides: list[str], heights: set[str]) -> None:
    for side in sides:
        zones.update((side, height) for height in (heights or ZONES))
    if sides:
        sides.clear()
        heights.clear()
