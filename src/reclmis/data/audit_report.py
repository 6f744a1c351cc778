"""An audit for people: text, and a contact sheet of what it found."""

from collections import defaultdict
from collections.abc import Sequence

from PIL import Image

from ..visualization import contact_sheet, overlay
from .audit import KINDS, Audit, Issue
from .inventory import Inventory
from .pairing import Pair, read_pair

_SHOWN = 8


def audit_text(found: Audit, *, listed: int = _SHOWN) -> str:
    """The audit in lines: each split, then each kind of issue with its first cases.

    Args:
        listed: cases per kind.
    """
    lines = [line for split, report in found.splits.items() for line in _split_lines(split, report)]
    kinds: dict[str, list[Issue]] = defaultdict(list)
    for issue in found.issues:
        kinds[issue.kind].append(issue)
    for kind, issues in kinds.items():
        severity, meaning = KINDS[kind]
        lines += ["", f"{severity}: {kind} ({len(issues)}): {meaning}"]
        lines += [f"  - {issue.message}" for issue in issues[:listed]]
        if len(issues) > listed:
            lines.append(f"  ... and {len(issues) - listed} more")
    return "\n".join(lines)


def _split_lines(split, report) -> list[str]:
    sizes = ", ".join(f"{count} of {size}" for size, count in list(report.sizes.items())[:3])
    more = len(report.sizes) - 3
    named = report.images - report.unnamed
    lines = [
        f"{split}: {report.images} samples ({sizes}{f', {more} other sizes' * (more > 0)} pixels)",
        f"  {report.notes} different notes; the commonest names {100 * report.commonest_note:.1f} % of the samples; "
        f"{100 * report.notes_complete:.1f} % understood completely",
        f"  {report.patients} patients or scans are named by {named} samples, {report.unnamed} tell none",
    ]
    shares = [f"class {index}: {100 * entry['pixels']:.2f} % of pixels, in {entry['images']:.0f} images"
              for index, entry in report.classes.items() if index]  # fmt: skip
    lines.append(f"  {'; '.join(shares)}; {report.empty_masks} empty masks")
    if report.note_fit:
        agreement = ", ".join(
            f"{name.replace('_', ' ')} {100 * share:.1f} %" for name, share in report.note_fit.items()
        )
        lines.append(f"  notes agree with masks: {agreement}")
    return lines


def audit_sheet(inventory: Inventory, found: Audit, *, per_kind: int = 4, per_split: int = 4) -> Image.Image:
    """A contact sheet: some samples of each split, evenly spaced, then some of each kind of issue with its pictures.

    Args:
        per_kind: issues shown of each kind.
        per_split: samples shown of each split.
    """
    pairs = {f"{split}/{pair.id}": pair for split, of_split in inventory.splits.items() for pair in of_split}
    rows: list[list[Image.Image | str]] = []
    for split, of_split in inventory.splits.items():
        for pair in _spread(of_split, per_split):
            rows.append([f"{split}: {pair.id}", *_pictures(inventory, pair), pair.note])
    shown: dict[str, int] = defaultdict(int)
    for issue in found.issues:
        shown[issue.kind] += 1
        if shown[issue.kind] <= per_kind:
            for name in [name for name in issue.samples if name in pairs][:2]:
                rows.append([f"{issue.kind}: {name}", *_pictures(inventory, pairs[name]), issue.message])
    return contact_sheet(rows, ["sample", "image", "mask", "note, or what was found"])


def _spread(pairs: Sequence[Pair], count: int) -> list[Pair]:
    step = max(len(pairs) // count, 1) if count else 1
    return list(pairs[::step][:count])


def _pictures(inventory: Inventory, pair: Pair) -> list[Image.Image | str]:
    try:
        image, mask = read_pair(pair, inventory.mask_format)
        return [image, overlay(image, mask)]
    except (OSError, ValueError) as error:
        return ["cannot be read", str(error)]
