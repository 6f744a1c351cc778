"""Sentence -> finding, with an account of everything that was read otherwise than written, or not at all.

The grammar is that of QaTa-COV19 and MosMedData+ (extent, finding, number of areas, heights before a side) and the word
order of radiologists ("left lower lobe", "RUL", "bibasilar"). Lobes count as the thirds of a frontal lung that they fill.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from .finding import KINDS, SIDES, Finding, Zone
from .lexicon import NUMBERS, Word, look_up

# A number behind a hyphen is part of a name, such as SARS-CoV-2.
_TOKEN = re.compile(r"(?i:ground[\s-]*glass|covid[\s-]*19)|[^\W\d_]+(?:'s)?|-?\d+|[.,;:!?]")
# What makes a sentence one about lungs. Without any of it "left" and "upper" may be places in a tissue sample.
_OF_CHESTS = frozenset({"kind", "infected", "lung", "laterality", "chest"})
_CLAIMS = frozenset({"kind", "infected", "laterality"})


class Correction(NamedTuple):
    """What a note says, and as what it was read; empty: as nothing."""

    written: str
    read: str


@dataclass(frozen=True)
class ParsedNote:
    """What became of a note. Nothing in it is lost: words are in the finding or in one of the lists.

    Attributes:
        text: as written.
        finding: `None` for a sentence that is not about a finding in lungs.
        corrections: misspellings, words that ran together, and slots that a template left empty.
        not_understood: words without a meaning here, and places or numbers that belong to nothing.
        negated: what is said to be absent beside something present.
        contradictions: statements that exclude each other, in words. Named sides win over "unilateral" and "bilateral";
            of two numbers neither holds.
    """

    text: str
    finding: Finding | None
    corrections: tuple[Correction, ...] = ()
    not_understood: tuple[str, ...] = ()
    negated: tuple[str, ...] = ()
    contradictions: tuple[str, ...] = ()

    @property
    def status(self) -> Literal["complete", "partial", "unparsed"]:
        """`"complete"`: the finding says all that the note says. `"partial"`: the lists say what is missing."""
        if self.finding is None:
            return "unparsed"
        return "partial" if self.not_understood or self.negated or self.contradictions else "complete"


@lru_cache(maxsize=65536)
def parse_note(text: str) -> ParsedNote:
    """Reads one note. Any string will do: what is not understood is said so, and raises nothing.

    Raises:
        TypeError: no string.
    """
    if not isinstance(text, str):
        raise TypeError(f"A note is a string, got {text!r}.")
    words = [look_up(token) for token in _TOKEN.findall(text)]
    denied = _denied(words)
    affirmed = [word for index, word in enumerate(words) if index not in denied]
    if not _roles(words) & _OF_CHESTS:
        return ParsedNote(text, None, not_understood=_spoken(words))
    reading = _Reading([Correction(word.text, word.read_as) for word in words if word.read_as is not None])
    for index, word in enumerate(affirmed):
        reading.take(word, affirmed[index + 1] if index + 1 < len(affirmed) else None)
    reading.close_sentence()
    negated = _spoken([words[index] for index in sorted(denied)])
    if not _roles(affirmed) & _CLAIMS and not reading.places:
        return _without_claim(text, words, reading.corrections, negated)
    return reading.parsed(text, negated)


def note_zones(note: str) -> frozenset[Zone]:
    """Zones `(side, height)` that a note names, a side alone being all of its lung; empty when it names none."""
    finding = parse_note(note).finding
    return finding.zones if finding else frozenset()


def note_count(note: str) -> int | None:
    """How many infected areas the note states; `None` when it states no number, or two that differ."""
    finding = parse_note(note).finding
    return finding.count if finding else None


def _roles(words: Sequence[Word]) -> set[str]:
    return {meaning.role for word in words for meaning in word.meanings or ()}


def _spoken(words: Sequence[Word]) -> tuple[str, ...]:
    """The words themselves, without the marks between them."""
    return tuple(word.text for word in words if word.text[-1].isalnum())


def _denied(words: Sequence[Word]) -> set[int]:
    """Which words a negation covers: from "no" to the end of the sentence or a "but", and the phrase around "clear"."""
    covered: set[int] = set()
    phrase, denying = 0, False
    for index, word in enumerate(words):
        roles = _roles([word])
        if roles & {"end", "stop"}:
            phrase, denying = index + 1, False
        elif "comma" in roles:
            phrase = index + 1
        denying = denying or "not" in roles
        if denying:
            covered.add(index)
        elif "well" in roles:
            ends = (place for place in range(index, len(words)) if _roles([words[place]]) & {"end", "comma", "stop"})
            covered.update(range(phrase, next(ends, len(words))))
    return covered


def _without_claim(
    text: str, words: Sequence[Word], corrections: list[Correction], negated: tuple[str, ...]
) -> ParsedNote:
    """Nothing is said to be there: absence if something is denied, else no finding."""
    if not negated:
        return ParsedNote(text, None, not_understood=_spoken(words))
    kinds = [meaning.value for word in words for meaning in word.meanings or () if meaning.role == "kind"]
    # An absence in one place is silent about the others, which no finding can say.
    unknown = tuple(word.text for word in words if word.meanings is None or _roles([word]) & {"side", "height"})
    finding = Finding(present=False, kind=str(kinds[0]) if kinds else KINDS[0])
    return ParsedNote(text, finding, tuple(corrections), unknown)


class _Reading:
    """Takes words in order and binds heights to sides, and numbers to areas."""

    def __init__(self, corrections: list[Correction]) -> None:
        self.corrections = corrections
        self.places: dict[str, set[str]] = {}
        self.counts: list[int] = []
        self.kinds: list[str] = []
        self.lateralities: set[str] = set()
        self.strays: list[str] = []
        self._unbound: list[tuple[str, str]] = []
        self._sides: list[str] = []
        self._heights: list[tuple[str, str]] = []
        self._height_came_first = self._joined = False
        self._numbers: list[tuple[int, str]] = []
        self._side_before: str | None = None

    def take(self, word: Word, following: Word | None) -> None:
        """Reads a word; the one that follows tells what "bilateral" and "lung" are about."""
        if word.meanings is None:
            self.strays.append(word.text)
        self._notice_missing_and(word)
        before_height = following is not None and "height" in _roles([following])
        for role, value in word.meanings or ():
            if self._numbers and role not in ("number", "tens", "chest"):
                self._place_numbers(counting=role in ("infected", "area", "kind"))
            if role in ("number", "tens"):
                self._numbers.append((int(value), word.text))
            elif role == "side":
                self._take_side(str(value))
            elif role == "height":
                self._take_height(str(value), word.text)
            elif role == "lung" and self._sides and (self._heights or not before_height):
                self._close_place()
            elif role == "and":
                self._joined = True
            elif role == "comma":
                self._close_place()
            elif role in ("end", "stop"):
                self.close_sentence()
            elif role == "kind":
                self._take_kind(str(value), word.text)
            elif role == "laterality":
                self.lateralities.add(str(value))
                if value == "bilateral" and before_height:
                    self._sides.extend(SIDES)
                    self._joined = False

    def close_sentence(self) -> None:
        """What is open at the end of a sentence finds its place, or none."""
        self._close_place()
        self._unbound += self._heights
        self._heights = []
        self._place_numbers(counting=False)

    def parsed(self, text: str, negated: tuple[str, ...]) -> ParsedNote:
        contradictions: list[str] = []
        laterality = self._laterality(contradictions)
        self._drop_empty_slot(laterality)
        if laterality == "bilateral" and not self.places and self._unbound:
            self.places = {side: {height for height, _ in self._unbound} for side in SIDES}
            self._unbound = []
        strays = [*self.strays, *dict.fromkeys(word for _, word in self._unbound)]
        count = self._count(contradictions)
        implied = {0: laterality, 1: "unilateral", 2: "bilateral"}[len(self.places)]
        if laterality not in (None, implied):
            named = "both sides are" if implied == "bilateral" else f"only the {next(iter(self.places))} is"
            contradictions.append(f"{laterality}, but {named} named")
        if implied == "bilateral" and count == 1:
            contradictions.append("both sides, but one infected area")
        kind = self.kinds[0] if self.kinds else KINDS[0]
        if count == 0 and implied is None:
            return ParsedNote(text, Finding(present=False, kind=kind), tuple(self.corrections), tuple(strays), negated)
        if count == 0:
            contradictions.append("zero infected areas, but a place")
        finding = Finding(
            kind=kind,
            laterality=implied,  # type: ignore[arg-type]
            count=count or None,
            **{side: frozenset(heights) for side, heights in self.places.items()},  # type: ignore[arg-type]
        )
        return ParsedNote(text, finding, tuple(self.corrections), tuple(strays), negated, tuple(contradictions))

    def _notice_missing_and(self, word: Word) -> None:
        """Of "right left lung" both are meant."""
        meanings = word.meanings or ()
        side = str(meanings[0].value) if len(meanings) == 1 and meanings[0].role == "side" else None
        if side and self._side_before and side != self._side_before:
            self.corrections.append(Correction(f"{self._side_before} {side}", f"{self._side_before} and {side}"))
        self._side_before = side

    def _take_side(self, side: str) -> None:
        if self._sides and self._heights and not self._height_came_first:
            # "left upper [and] right lower lobe"
            self._close_place()
        self._sides.append(side)
        self._joined = False

    def _take_height(self, height: str, word: str) -> None:
        if self._sides and (self._height_came_first or (self._joined and not self._heights)):
            # "lower left [and] upper right lung", "left [and] lower right lung"; not "left upper and lower lobes"
            self._close_place()
        self._height_came_first = self._height_came_first or not self._sides
        self._heights.append((height, word))

    def _take_kind(self, kind: str, word: str) -> None:
        if not self.kinds or (self.kinds[-1].startswith("ground") and kind == "pulmonary opacity"):
            self.kinds = self.kinds or [kind]
        elif kind not in self.kinds:
            self.strays.append(word)

    def _close_place(self) -> None:
        """Binds the open heights to the open sides; heights alone stay open."""
        if self._sides:
            for side in self._sides:
                self.places.setdefault(side, set()).update(height for height, _ in self._heights)
            self._sides, self._heights, self._height_came_first = [], [], False
        self._joined = False

    def _place_numbers(self, *, counting: bool) -> None:
        values: list[int] = []
        for value, _ in self._numbers:
            if values and values[-1] >= 20 and values[-1] % 10 == 0 and 0 < value < 10:
                values[-1] += value
            else:
                values.append(value)
        if counting:
            self.counts += values
        else:
            self.strays += [word for _, word in self._numbers]
        self._numbers = []

    def _laterality(self, contradictions: list[str]) -> str | None:
        if len(self.lateralities) > 1:
            contradictions.append("both unilateral and bilateral")
            return None
        return next(iter(self.lateralities), None)

    def _count(self, contradictions: list[str]) -> int | None:
        counts = sorted(set(self.counts))
        if len(counts) > 1:
            spelt = " and ".join(NUMBERS[count] if count < len(NUMBERS) else str(count) for count in counts)
            contradictions.append(f"{spelt} infected areas")
            return None
        return counts[0] if counts else None

    def _drop_empty_slot(self, laterality: str | None) -> None:
        """MosMedData+ writes "Unilateral ..., left lung and middle right lung" and means the right one: a template's
        slot for a height was left empty."""
        empty = [side for side, heights in self.places.items() if not heights]
        if laterality == "unilateral" and len(self.places) == 2 and len(empty) == 1:
            del self.places[empty[0]]
            self.corrections.append(Correction(f"{empty[0]} lung", ""))
