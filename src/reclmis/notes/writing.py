"""Finding -> sentence: the canonical one, and others that say the same."""

from functools import lru_cache
from itertools import product

import numpy as np

from .finding import SIDES, ZONES, Finding
from .lexicon import NUMBERS
from .parser import parse_note


def render(finding: Finding) -> str:
    """The finding in the sentence of QaTa-COV19. [`parse_note`] reads the same finding back."""
    if not finding.present:
        return f"No {finding.kind}, zero infected areas."
    opening = f"{finding.laterality or ''} {finding.kind}".strip().capitalize()
    places = [f"{_heights(finding, side)} {side} lung".strip() for side in SIDES if side in finding.sides]
    count = [f"{spelt(finding.count)} infected area{'s' * (finding.count > 1)}"] if finding.count else []
    return ", ".join([opening, *count, *([" and ".join(places)] if places else [])]) + "."


def normalise_note(note: str) -> str:
    """The canonical sentence of a note that was understood completely; any other note as it is, as nothing may be lost.

    [`parse_note`] tells which it was, and why.
    """
    parsed = parse_note(note)
    return render(parsed.finding) if parsed.finding and parsed.status == "complete" else note


def paraphrases(finding: Finding, n: int, seed: int) -> list[str]:
    """`n` distinct sentences of the same finding, the canonical one possibly among them. [`parse_note`] reads this finding
    from each.

    Raises:
        ValueError: there are fewer.
    """
    sentences = _sentences(finding)
    if not 0 <= n <= len(sentences):
        raise ValueError(f"This finding has {len(sentences)} sentences, {n} were asked for. Ask for 0 to that many.")
    order = np.random.default_rng(seed).permutation(len(sentences))
    return [sentences[index] for index in order[:n]]


def spelt(count: int) -> str:
    return NUMBERS[count] if count < len(NUMBERS) else str(count)


@lru_cache(maxsize=4096)
def _sentences(finding: Finding) -> tuple[str, ...]:
    if not finding.present:
        kind = finding.kind
        return (render(finding), f"No {kind}.", f"There is no {kind}.", f"No sign of {kind}.", f"Lungs without {kind}.")
    written = (
        _sentence(opening, count, places, layout)
        for opening, count, places, layout in product(
            _openings(finding), _counts(finding), _places(finding), ("comma", "in", "places first")
        )
    )
    # A sentence that the parser would read as something else is none of this finding.
    return tuple(text for text in dict.fromkeys(written) if parse_note(text).finding == finding)


def _sentence(opening: str, count: str, places: str, layout: str) -> str:
    if layout == "comma":
        text = ", ".join(part for part in (opening, count, places) if part)
    elif layout == "in":
        text = f"{opening}{f' with {count}' * bool(count)}{f' in the {places}' * bool(places)}"
    else:
        text = f"{places}{': ' * bool(places)}{opening}{f', {count}' * bool(count)}"
    return text[0].upper() + text[1:] + "."


def _openings(finding: Finding) -> list[str]:
    """The side's word may go where sides are named anyway."""
    named = f"{finding.laterality} {finding.kind}" if finding.laterality else finding.kind
    return list(dict.fromkeys([named, *([finding.kind] if finding.sides else [])]))


def _counts(finding: Finding) -> list[str]:
    if not finding.count:
        return [""]
    plural = "s" * (finding.count > 1)
    return [f"{number} {noun}{plural}" for number in dict.fromkeys((spelt(finding.count), str(finding.count)))
            for noun in ("infected area", "infected region", "area")]  # fmt: skip


def _places(finding: Finding) -> list[str]:
    styles = ("{heights} {side} lung", "{side} {heights} lung", "{heights} zone of the {side} lung")
    sides = [side for side in SIDES if side in finding.sides]
    orders = [sides, sides[::-1]] if len(sides) == 2 else [sides]
    places = [
        joint.join(style.format(side=side, heights=_heights(finding, side, link)).strip() for side in order)
        for style, order, joint, link in product(styles, orders, (" and ", " and the "), (" ", " and "))
    ]
    return list(dict.fromkeys(" ".join(place.split()) for place in places))


def _heights(finding: Finding, side: str, link: str = " ") -> str:
    heights = finding.heights(side) or ()
    return "all" if len(heights) == len(ZONES) else link.join(height for height in ZONES if height in heights)
