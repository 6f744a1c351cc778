"""What the rows of a certificate show, in words, each with its numbers and the criterion that decides."""

from collections.abc import Mapping
from typing import Any

# Dice per image that counts: less is no difference, neither where there should be one nor where there should be none.
MARGIN = 0.02
# Of fewer images an interval says too little.
LEAST_IMAGES = 10

_NEEDS = (
    "yes where the 95 % intervals of the Dice lost against the truth, and of the Dice gained against the region that the "
    f"altered note describes, both lie above {100 * MARGIN:.0f} points"
)
_FOLLOWS = (
    f"{_NEEDS}, and the answer then agrees more with that region than with the truth; partly where only that fails"
)
_KEEPS = f"yes where the 95 % interval of the Dice lost lies below {100 * MARGIN:.0f} points"
_EMPTIES = "yes where the 95 % interval of the share of empty masks lies above a half"
_BEATS = "yes where the 95 % interval of the Dice above the floor's lies above 0"

NEEDED = {"shuffled": "needs its own note"}
FOLLOWED = {
    "side_swapped": "follows sides",
    "zone_swapped": "follows heights",
    "distractor": "tells findings of one image apart",
}
EMPTIED = {"contradicting": "marks nothing where the note names what is not there"}
KEPT = {"paraphrased": "understands other words", "typos": "understands typos"}
BEATEN = {"text_only": "sees more than the note alone says", "image_only": "knows more than the image alone shows"}


def verdicts(rows: Mapping[str, Mapping[str, Any]], floors: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """One line per claim: `claim`, `answer` ("yes", "partly", "no" or "not measured"), `numbers` and `criterion`.

    Args:
        rows: of a certificate, by name.
        floors: likewise.
    """
    lines = [_needed(claim, rows[name], _NEEDS) for name, claim in NEEDED.items() if name in rows]
    lines += [_followed(claim, rows[name]) for name, claim in FOLLOWED.items() if name in rows]
    lines += [_emptied(claim, rows[name]) for name, claim in EMPTIED.items() if name in rows]
    lines += [_kept(claim, rows[name]) for name, claim in KEPT.items() if name in rows]
    return lines + [_beaten(claim, floors[name]) for name, claim in BEATEN.items() if name in floors]


def _followed(claim: str, row: Mapping[str, Any]) -> dict[str, str]:
    line = _needed(claim, row, _FOLLOWS)
    if line["answer"] != "yes":
        return line
    described = row["described"]
    if described["by"] == "zones":
        # A share of what is marked: beside it, the rest lies elsewhere.
        return line if described["after"] > 0.5 else {**line, "answer": "partly"}
    against = f"{line['numbers']}; against the truth {100 * row['dice_per_image']:.1f}"
    return {**line, "numbers": against, "answer": "yes" if described["after"] > row["dice_per_image"] else "partly"}


def _needed(claim: str, row: Mapping[str, Any], criterion: str) -> dict[str, str]:
    if row["images"] < LEAST_IMAGES:
        return _unmeasured(claim, _too_few(row), criterion)
    numbers = f"Dice lost {points(row['lost'])} on {row['images']} images"
    described = row.get("described")
    if described is None or described["images"] < LEAST_IMAGES:
        return _unmeasured(claim, f"{numbers}; where the altered notes point is not known", criterion)
    unit = "share inside the zones" if described["by"] == "zones" else "Dice against the region described"
    change = f"from {100 * described['before']:.1f} to {100 * described['after']:.1f}"
    moves = f"{unit} {change} by the altered note: {points(described['gained'])} gained"
    moved = row["lost"]["low"] > MARGIN and described["gained"]["low"] > MARGIN
    return _line(claim, moved, f"{numbers}; {moves}", criterion)


def _emptied(claim: str, row: Mapping[str, Any]) -> dict[str, str]:
    if row["images"] < LEAST_IMAGES:
        return _unmeasured(claim, _too_few(row), _EMPTIES)
    share = row["empty_interval"]
    numbers = f"{100 * share['estimate']:.1f} % of {row['images']} masks are empty ({100 * share['low']:.1f} to "
    return _line(claim, share["low"] > 0.5, f"{numbers}{100 * share['high']:.1f})", _EMPTIES)


def _kept(claim: str, row: Mapping[str, Any]) -> dict[str, str]:
    if row["images"] < LEAST_IMAGES:
        return _unmeasured(claim, _too_few(row), _KEEPS)
    same = f"Dice between both masks {100 * row['same_mask_dice_per_image']:.1f}"
    numbers = f"Dice lost {points(row['lost'])} on {row['images']} images; {same}"
    return _line(claim, row["lost"]["high"] < MARGIN, numbers, _KEEPS)


def _beaten(claim: str, floor: Mapping[str, Any]) -> dict[str, str]:
    if "why" in floor:
        return _unmeasured(claim, floor["why"], _BEATS)
    if floor["images"] < LEAST_IMAGES:
        return _unmeasured(claim, f"{floor['images']} images, and at least {LEAST_IMAGES} are needed", _BEATS)
    numbers = f"Dice {points(floor['above'])} above the floor's {100 * floor['dice_per_image']:.1f}"
    return _line(claim, floor["above"]["low"] > 0, numbers, _BEATS)


def points(interval: Mapping[str, float]) -> str:
    """`"12.3 points (10.1 to 14.2)"` of an interval of shares."""
    # Nothing lost is no loss of -0.0.
    estimate, low, high = (round(100 * interval[key], 1) + 0.0 for key in ("estimate", "low", "high"))
    return f"{estimate:.1f} points ({low:.1f} to {high:.1f})"


def _too_few(row: Mapping[str, Any]) -> str:
    why = f"; of {row['left_out_images']} others: {row['left_out']}" if row["left_out"] else ""
    return f"{row['images']} images could be asked so, and at least {LEAST_IMAGES} are needed{why}"


def _line(claim: str, holds: bool, numbers: str, criterion: str) -> dict[str, str]:
    return {"claim": claim, "answer": "yes" if holds else "no", "numbers": numbers, "criterion": criterion}


def _unmeasured(claim: str, why: str, criterion: str) -> dict[str, str]:
    return {"claim": claim, "answer": "not measured", "numbers": why, "criterion": criterion}
