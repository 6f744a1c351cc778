"""Everything that can be wrong with a dataset, found before it costs a training: `reclmis data audit`."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from ..notes import NoteFit, Orientation, fits, parse_note
from .inventory import Inventory, files_of
from .manifest import digest_of, sample_key, summarise
from .masks import MaskFormat
from .near_duplicates import THRESHOLD, near_pairs, perceptual_hash
from .pairing import Pair, read_pair
from .patients import patient_of

Severity = Literal["error", "warning"]

# What is checked, how bad it is, and what it means.
KINDS: dict[str, tuple[Severity, str]] = {
    "files": ("error", "files that are missing, damaged, duplicate, or do not fit each other"),
    "unreadable": ("error", "images or masks that cannot be read, or differ in size"),
    "duplicate across splits": ("error", "the same pixels in two splits"),
    "near duplicate across splits": ("error", "the same picture in two splits, scaled, cropped or edited"),
    "patient across splits": ("error", "a patient or scan in two splits"),
    "trained on": ("error", "evaluation images that a checkpoint was trained on"),
    "duplicate": ("warning", "the same pixels twice in a split"),
    "near duplicate": ("warning", "the same picture twice in a split, scaled, cropped or edited"),
    "empty mask": ("warning", "no pixel is marked, though the note does not say that nothing is there"),
    "full mask": ("warning", "every pixel is marked"),
    "blank image": ("warning", "all pixels have one value"),
    "note not understood": ("warning", "a note about lungs of which a part has no meaning here"),
    "note contradicts itself": ("warning", "statements of a note that exclude each other"),
    "note against mask": ("warning", "side, or presence, of note and mask differ"),
    "class missing": ("warning", "a class that no mask of a split shows"),
}


@dataclass(frozen=True)
class Issue:
    """Something found.

    Attributes:
        kind: one of `KINDS`.
        message: which split and samples, and what about them.
        samples: the ids concerned, as `split/id`.
    """

    kind: str
    message: str
    samples: tuple[str, ...] = ()

    @property
    def severity(self) -> Severity:
        return KINDS[self.kind][0]


@dataclass
class SplitReport:
    """What one split holds.

    Attributes:
        images: samples.
        patients: different patients or scans, of those samples whose name tells.
        unnamed: samples whose name does not tell a patient.
        sizes: number of samples by `height x width`.
        notes: different notes.
        commonest_note: share of the samples that have the most frequent note.
        notes_complete: share of the notes that [`parse_note`] understands completely.
        empty_masks: masks without a marked pixel.
        classes: share of all pixels, and number of images, by class index.
        note_fit: of the notes about lungs, the share whose statement agrees with the mask, by kind of statement.
    """

    images: int = 0
    patients: int = 0
    unnamed: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    notes: int = 0
    commonest_note: float = 0.0
    notes_complete: float = 0.0
    empty_masks: int = 0
    classes: dict[int, dict[str, float]] = field(default_factory=dict)
    note_fit: dict[str, float] = field(default_factory=dict)


@dataclass
class Audit:
    """The result of [`audit`]. `issues` are in the order of `KINDS`."""

    splits: dict[str, SplitReport]
    issues: list[Issue]
    manifest: dict[str, Any]

    def of(self, severity: Severity, accepted: Iterable[str] = ()) -> list[Issue]:
        accepted = set(accepted)
        return [issue for issue in self.issues if issue.severity == severity and issue.kind not in accepted]

    def counts(self) -> dict[str, int]:
        """Number of issues by kind."""
        return dict(Counter(issue.kind for issue in self.issues))

    def as_dict(self) -> dict[str, Any]:
        return {
            "splits": {split: asdict(report) for split, report in self.splits.items()},
            "issues": [{**asdict(issue), "severity": issue.severity} for issue in self.issues],
        }


@dataclass(frozen=True)
class _Look:
    """What is kept of a decoded sample: a few hundred bytes."""

    pair: Pair
    split: str
    problem: str = ""
    size: tuple[int, int] = (0, 0)
    pixels: bytes = b""
    files: tuple[bytes, bytes] = (b"", b"")
    hash: np.ndarray | None = None
    blank: bool = False
    counts: tuple[int, ...] = ()
    fit: NoteFit | None = None

    @property
    def name(self) -> str:
        return f"{self.split}/{self.pair.id}"


def audit(
    inventory: Inventory,
    *,
    orientation: Orientation = "image",
    near_threshold: int = THRESHOLD,
    trained_on: Mapping[str, Any] | None = None,
    on_progress: Any = None,
) -> Audit:
    """Looks at every sample once and compares all with each other.

    Nothing stops it half-way: what cannot be read is an issue like the others. Memory grows by less than a kilobyte per
    sample, not by its pixels.

    Args:
        inventory: of [`reclmis.data.scan_by_name`], best with `verify=False`, as files are read here.
        orientation: whose left the notes mean.
        near_threshold: bits of 256 in which the perceptual hashes of near duplicates may differ.
        trained_on: the manifest of a checkpoint: its training images are looked for in the splits that are not `train`.
        on_progress: called with 1 after each sample.
    """
    issues = [Issue("files", problem) for problem in inventory.problems]
    looks = _look_at_all(inventory, orientation, on_progress)
    good = [look for look in looks if not look.problem]
    issues += [Issue("unreadable", f"{look.split}: {look.problem}", (look.name,)) for look in looks if look.problem]
    issues += _duplicates(good)
    issues += _near_duplicates(good, near_threshold)
    issues += _shared_patients(good)
    issues += _trained_on(good, trained_on or {})
    issues += _odd_samples(good)
    reports = {split: _report([look for look in good if look.split == split]) for split in inventory.splits}
    issues += _missing_classes(reports, inventory.mask_format)
    issues.sort(key=lambda issue: list(KINDS).index(issue.kind))
    return Audit(reports, issues, _manifest(inventory, good))


def _look_at_all(inventory: Inventory, orientation: Orientation, on_progress: Any) -> list[_Look]:
    samples = [(split, pair) for split, pairs in inventory.splits.items() for pair in pairs]

    def look(sample: tuple[str, Pair]) -> _Look:
        found = _look(*sample, inventory.mask_format, orientation)
        if on_progress is not None:
            on_progress(1)
        return found

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(look, samples))


def _look(split: str, pair: Pair, mask_format: MaskFormat, orientation: Orientation) -> _Look:
    try:
        image, mask = read_pair(pair, mask_format)
        files = files_of(pair, mask_format, (image, mask))
        digests = digest_of(files["image"]), digest_of(files["mask"])
    except (OSError, ValueError) as error:
        return _Look(pair, split, f"{pair.id}: {error}")
    size = image.height, image.width
    if mask.shape != size:
        return _Look(pair, split, f"{pair.id}: the image is {size[0]} x {size[1]} pixels, its mask "
                                  f"{mask.shape[0]} x {mask.shape[1]}; give the mask of this image.")  # fmt: skip
    pixels = image.tobytes()
    return _Look(
        pair,
        split,
        size=size,
        pixels=hashlib.sha256(f"{size}".encode() + pixels).digest(),
        files=digests,
        hash=perceptual_hash(image),
        blank=pixels == pixels[:3] * (len(pixels) // 3),
        counts=tuple(np.bincount(mask.ravel(), minlength=max(mask_format.num_labels, 2)).tolist()),
        # Sides and counts of several classes at once say nothing about one note.
        fit=fits(pair.note, mask, orientation=orientation) if mask_format.num_labels == 1 else None,
    )


def _duplicates(looks: Sequence[_Look]) -> list[Issue]:
    """Equal pixels in different files; several questions about one file are none."""
    groups: dict[bytes, list[_Look]] = defaultdict(list)
    for look in looks:
        groups[look.pixels].append(look)
    return [issue for group in groups.values() for issue in _same(group, "duplicate", "the same pixels")]


def _near_duplicates(looks: Sequence[_Look], threshold: int) -> list[Issue]:
    different = list({look.pixels: look for look in looks}.values())
    if len(different) < 2:
        return []
    pairs = near_pairs(np.stack([look.hash for look in different if look.hash is not None]), threshold)
    return [
        issue
        for i, j, bits in pairs
        if not _neighbours(different[i].pair, different[j].pair)
        for issue in _same([different[i], different[j]], "near duplicate", f"one picture ({bits} of 256 bits differ)")
    ]


def _neighbours(one: Pair, other: Pair) -> bool:
    """Slices of one volume resemble each other without being copies."""
    return one.slice is not None and one.image == other.image


def _same(group: Sequence[_Look], kind: str, what: str) -> list[Issue]:
    if len({(look.pair.image, look.pair.slice) for look in group}) < 2:
        return []
    across = len({look.split for look in group}) > 1
    names = tuple(sorted({look.name for look in group}))
    return [Issue(f"{kind} across splits" if across else kind, f"{', '.join(names)}: {what}.", names)]


def _shared_patients(looks: Sequence[_Look]) -> list[Issue]:
    groups: dict[str, list[_Look]] = defaultdict(list)
    for look in looks:
        if patient := _patient(look.pair):
            groups[patient].append(look)
    issues = []
    for patient, group in sorted(groups.items()):
        splits = Counter(look.split for look in group)
        if len(splits) > 1:
            where = ", ".join(f"{count} in {split}" for split, count in splits.items())
            names = tuple(sorted(look.name for look in group))
            issues.append(Issue("patient across splits", f"{patient}: {where}; keep each patient in one split.", names))
    return issues


def _patient(pair: Pair) -> str | None:
    return pair.patient or patient_of(pair.id)


def _trained_on(looks: Sequence[_Look], manifest: Mapping[str, Any]) -> list[Issue]:
    known = set(manifest.get("train", {}).get("samples", ()))
    return [Issue("trained on", f"{look.name}: the checkpoint was trained on this image.", (look.name,))
            for look in looks if look.split != "train" and sample_key(look.files[0]) in known]  # fmt: skip


def _odd_samples(looks: Sequence[_Look]) -> list[Issue]:
    issues = []
    for look in looks:
        note = parse_note(look.pair.note)
        marked = sum(look.counts[1:])
        if look.blank:
            issues.append(Issue("blank image", f"{look.name}: all pixels have one value.", (look.name,)))
        if not marked and (note.finding is None or note.finding.present):
            issues.append(
                Issue("empty mask", f"{look.name}: no pixel is marked, the note is {look.pair.note!r}.", (look.name,))
            )
        if marked == look.size[0] * look.size[1]:
            issues.append(Issue("full mask", f"{look.name}: every pixel is marked.", (look.name,)))
        if note.contradictions:
            said = f"{look.pair.note!r}: {'; '.join(note.contradictions)}"
            issues.append(Issue("note contradicts itself", f"{look.name}: {said}.", (look.name,)))
        elif note.status == "partial":
            words = ", ".join((*note.not_understood, *note.negated))
            issues.append(Issue("note not understood", f"{look.name}: {look.pair.note!r}: {words}.", (look.name,)))
        if look.fit is not None and marked and False in (look.fit.presence, look.fit.sides):
            issues.append(
                Issue("note against mask", f"{look.name}: {_disagreement(look.fit, look.pair.note)}", (look.name,))
            )
    return issues


def _disagreement(fit: NoteFit, note: str) -> str:
    seen = " and ".join(sorted(fit.seen.sides)) or "none"
    return f"the note {note!r} does not fit a mask whose sides are {seen}."


def _report(looks: Sequence[_Look]) -> SplitReport:
    notes = Counter(look.pair.note for look in looks)
    patients = {patient for look in looks if (patient := _patient(look.pair))}
    parsed = [parse_note(look.pair.note) for look in looks]
    return SplitReport(
        images=len(looks),
        patients=len(patients),
        unnamed=sum(_patient(look.pair) is None for look in looks),
        sizes=dict(Counter(f"{look.size[0]} x {look.size[1]}" for look in looks).most_common()),
        notes=len(notes),
        commonest_note=notes.most_common(1)[0][1] / len(looks) if looks else 0.0,
        notes_complete=_share([note.status == "complete" for note in parsed]),
        empty_masks=sum(not sum(look.counts[1:]) for look in looks),
        classes=_classes(looks),
        note_fit=_note_fit(looks),
    )


def _classes(looks: Sequence[_Look]) -> dict[int, dict[str, float]]:
    if not looks:
        return {}
    counts = np.array([look.counts for look in looks], dtype=np.int64)
    shares = counts.sum(axis=0) / counts.sum()
    return {index: {"pixels": float(share), "images": int((counts[:, index] > 0).sum())}
            for index, share in enumerate(shares)}  # fmt: skip


def _note_fit(looks: Sequence[_Look]) -> dict[str, float]:
    found = [look.fit for look in looks if look.fit is not None and look.fit.stated is not None]
    values = {name: [getattr(fit, name) for fit in found if getattr(fit, name) is not None]
              for name in ("presence", "sides", "count", "zone_overlap")}  # fmt: skip
    return {name: _share(answers) for name, answers in values.items() if answers}


def _share(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0


def _missing_classes(reports: Mapping[str, SplitReport], mask_format: MaskFormat) -> list[Issue]:
    return [
        Issue("class missing", f"{split}: no mask shows class {index}.")
        for split, report in reports.items()
        for index in range(1, max(mask_format.num_labels, 2))
        if report.images and not report.classes[index]["images"]
    ]


def _manifest(inventory: Inventory, looks: Sequence[_Look]) -> dict[str, Any]:
    """As [`reclmis.data.manifest.build_manifest`] of the dataset that training would load."""
    samples = {split: [look for look in looks if look.split == split] for split in inventory.splits}
    return {split: summarise((look.pair.id, look.pair.note, *look.files) for look in of_split)
            for split, of_split in samples.items()}  # fmt: skip
