"""Does the mask follow the note? The same images under other notes, held against the truth and against what each note
describes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypedDict

import numpy as np

from ..data.masks import read_mask
from ..notes import Orientation, note_zones
from .described_regions import DescribedRegions, shown_in_zones, zone_boxes
from .many_notes import answers_to_many, notes_cut
from .note_sets import DISTRACTOR_MASK, DISTRACTOR_NOTE, DISTRACTORS, NoteSet, note_sets
from .scores import Evaluation, ImageScore, score_image, score_split
from .statistics import bootstrap, compare
from .text_dependence import CONSTANT_NOTE
from .verdicts import verdicts

METRICS = ("dice_per_image", "dice_pooled", "iou_per_image", "iou_pooled")


class _Draws(TypedDict):
    """Options of the bootstrap."""

    seed: int
    resamples: int


def text_dependence_certificate(
    model: Any,
    processor: Any,
    dataset: Any,
    train: Any | None = None,
    *,
    image_only: tuple[Any, Any] | None = None,
    image_only_note: str = CONSTANT_NOTE,
    seed: int = 0,
    resamples: int = 2000,
    batch_size: int = 16,
    orientation: Orientation = "image",
) -> dict[str, Any]:
    """Asks a model about the same images under the notes of [`note_sets`], and answers what that shows in words.

    Every row is about the images whose note can be altered that way, and compares them with themselves under their true
    note. What an altered note describes is known exactly where the dataset has distractors (the synthetic set,
    [`shown_in_zones`]), and where a note names nothing that the image shows. Elsewhere it is what the text-only predictor
    answers to that note, and besides, the part of the image that is called so ([`zone_boxes`]).

    Args:
        model: a [`RecLMISModel`].
        processor: its processor.
        dataset: of HF datasets, with `image`, `mask`, `note` and `id`; see [`note_sets`] for what else it may have.
        train: the training split, from which the text-only predictor learns; without it that floor is absent, and a
            described region is its boxes alone.
        image_only: model and processor of a checkpoint trained with one note for all: the floor of what an image shows
            without a note.
        image_only_note: that note.
        seed: of what is random in the notes, and of the intervals.
        resamples: of the intervals, see [`bootstrap`].
        batch_size: images per forward pass.
        orientation: whose left the notes mean.

    Returns:
        For JSON: `rows` and `floors` by name, `verdicts`, `images`, `orientation`, `seed`, and of the `intervals` how they
        were drawn. Metrics are those of [`Evaluation.summary`], of the `images` of a row.

    Raises:
        ValueError: fewer than two images, or data that cannot be read.
    """
    if len(dataset) < 2:
        raise ValueError(f"A certificate needs at least two images, got {len(dataset)}.")
    labels = model.config.num_labels
    sets = note_sets(dataset, null_note=bool(model.config.note_dropout), num_labels=labels, seed=seed,
                     orientation=orientation, fits=lambda note: not notes_cut(processor, {0: note}))  # fmt: skip
    regions = None
    if train is not None and labels == 1:
        masks = (row["mask"] for row in train.select_columns(["mask"]))
        regions = DescribedRegions(list(train["note"]), masks)
    draws: _Draws = {"seed": seed, "resamples": resamples}
    asked = {notes.name: notes.notes for notes in sets}
    judge = _Judge(dataset, labels, regions, orientation)
    tallies = {notes.name: _Tally(notes, len(dataset), labels, judge.source_of(notes.claim)) for notes in sets}
    for row, sample, answers in answers_to_many(model, processor, dataset, asked, batch_size=batch_size):
        judge.take(row, sample, answers, tallies)
    rows = {name: tally.row(notes_cut(processor, asked[name]), draws) for name, tally in tallies.items()}
    right = Evaluation(tuple(scores for _, scores in tallies["right"].truth), labels)
    floors = {
        "text_only": _text_only_floor(judge.floor, right, train, draws),
        "image_only": _image_only_floor(image_only, image_only_note, dataset, right, batch_size, draws),
    }
    drawn = bootstrap(right, **draws)
    rows["right"]["dice_interval"] = asdict(drawn.intervals["dice_per_image"])
    return {
        "images": len(dataset),
        "orientation": orientation,
        "seed": seed,
        "intervals": {name: getattr(drawn, name) for name in ("level", "resamples", "clusters", "patients")},
        "rows": rows,
        "floors": floors,
        "verdicts": verdicts(rows, floors),
    }


@dataclass
class _Tally:
    """The answers to one set of notes, image by image, and what they were held against; in pairs, the answer to the true
    note is first."""

    notes: NoteSet
    images: int
    labels: int
    described_by: str
    truth: list[tuple[ImageScore, ImageScore]] = field(default_factory=list)
    described: list[tuple[ImageScore, ImageScore]] = field(default_factory=list)
    zones: list[tuple[ImageScore, ImageScore]] = field(default_factory=list)
    same_mask: list[ImageScore] = field(default_factory=list)
    other_places: int = 0

    def row(self, cut: int, draws: _Draws) -> dict[str, Any]:
        notes = self.notes
        row: dict[str, Any] = {
            "what": notes.what,
            "claim": notes.claim,
            "images": len(self.truth),
            "notes_changed": 0 if notes.name == "right" else len(self.truth),
            "left_out_images": self.images - len(self.truth),
            "left_out": notes.left_out if len(self.truth) < self.images else "",
        }
        if not self.truth:
            return row
        before, after = self._pair(self.truth)
        row |= {"other_places": self.other_places, "notes_cut": cut, **_metrics(after),
                "empty": float(np.mean([image.found_nothing for image in after.images]))}  # fmt: skip
        if notes.name == "right":
            return row
        row |= {"true_note": _metrics(before), "lost": _gained(after, before, draws)}
        row["same_mask_dice_per_image"] = Evaluation(tuple(self.same_mask), self.labels).summary()["dice_per_image"]
        if self.zones:
            row["inside_zones"] = self._moved("zones", self.zones, "precision_per_image", draws)
        if self.described:
            row["described"] = self._moved(self.described_by, self.described, "dice_per_image", draws)
            if notes.claim == "absent":
                # Against an empty mask the Dice is 1 where nothing is marked, and 0 elsewhere.
                answers = self._pair(self.described)[1]
                row["empty_interval"] = asdict(bootstrap(answers, **draws).intervals["dice_per_image"])
        elif self.zones:
            row["described"] = row["inside_zones"]
        return row

    def _moved(self, by: str, pairs: list[tuple[ImageScore, ImageScore]], metric: str, draws: _Draws) -> dict[str, Any]:
        before, after = self._pair(pairs)
        return {"by": by, "images": len(pairs), "before": before.summary()[metric], "after": after.summary()[metric],
                "gained": _gained(before, after, draws, metric)}  # fmt: skip

    def _pair(self, pairs: list[tuple[ImageScore, ImageScore]]) -> tuple[Evaluation, Evaluation]:
        before, after = zip(*pairs, strict=True)
        return Evaluation(before, self.labels), Evaluation(after, self.labels)


class _Judge:
    """Holds the answers about one image against everything, and keeps the scores."""

    def __init__(self, dataset: Any, labels: int, regions: DescribedRegions | None, orientation: Orientation) -> None:
        columns = dataset.column_names
        self.notes = list(dataset["note"])
        self.patients = list(dataset["patient"]) if "patient" in columns else [None] * len(dataset)
        self.distractors = dataset.select_columns(DISTRACTORS) if set(DISTRACTORS) <= set(columns) else None
        self.labels, self.regions, self.orientation = labels, regions, orientation
        self.floor: list[ImageScore] = []

    def take(
        self, row: int, sample: dict[str, Any], answers: dict[str, np.ndarray], tallies: dict[str, _Tally]
    ) -> None:
        truth, right = sample["mask"], answers["right"]

        def scores(target: np.ndarray, *masks: np.ndarray) -> tuple[ImageScore, ...]:
            return tuple(score_image(sample["id"], mask, target, num_labels=self.labels, patient=self.patients[row])
                         for mask in masks)  # fmt: skip

        for name, mask in answers.items():
            tally = tallies[name]
            note = tally.notes.notes[row]
            tally.truth.append(scores(truth, right, mask))  # type: ignore[arg-type]
            tally.same_mask += scores(right, mask)
            zones = note_zones(note) if note else frozenset()
            tally.other_places += zones != note_zones(self.notes[row])
            described = self._region(row, note, tally.notes.claim, truth)
            if described is not None:
                tally.described.append(scores(described, right, mask))  # type: ignore[arg-type]
            names_a_place = tally.notes.claim in ("elsewhere", "distractor") and zones and self.labels == 1
            if names_a_place and right.any() and mask.any():
                boxes = zone_boxes(zones, truth.shape, orientation=self.orientation)
                tally.zones.append(scores(boxes, right, mask))  # type: ignore[arg-type]
        if self.regions is not None:
            self.floor += scores(truth, self.regions.answer(self.notes[row], truth.shape))

    def source_of(self, claim: str) -> str:
        """How it is known what a note describes."""
        return "exact" if claim in ("absent", "distractor") or self.distractors is not None else "text_only"

    def _region(self, row: int, note: str | None, claim: str, truth: np.ndarray) -> np.ndarray | None:
        if claim == "absent":
            return np.zeros_like(truth)
        if claim == "distractor":
            return self._distractor(row)[1]
        if claim != "elsewhere" or not note:
            return None
        if self.distractors is not None:
            findings = [(self.notes[row], truth), self._distractor(row)]
            return (
                shown_in_zones(findings, note_zones(note), orientation=self.orientation) if note_zones(note) else None
            )
        return None if self.regions is None else self.regions.region(note, truth.shape)  # type: ignore[arg-type]

    def _distractor(self, row: int) -> tuple[str, np.ndarray]:
        assert self.distractors is not None
        other = self.distractors[row]
        return other[DISTRACTOR_NOTE], read_mask(other[DISTRACTOR_MASK], self.labels)


def _text_only_floor(
    scores: Sequence[ImageScore], right: Evaluation, train: Any | None, draws: _Draws
) -> dict[str, Any]:
    what = "the note alone, no image: mean training masks of the zones that it names"
    if not scores:
        return {
            "what": what,
            "why": "no training split was given" if train is None else "it answers for one class only",
        }
    floor = Evaluation(tuple(scores), right.num_labels)
    return {"what": what, "images": len(floor), **_metrics(floor), "above": _gained(floor, right, draws)}


def _image_only_floor(
    image_only: tuple[Any, Any] | None, note: str, dataset: Any, right: Evaluation, batch_size: int, draws: _Draws
) -> dict[str, Any]:
    what = "the image alone: a checkpoint trained with one note for all"
    if image_only is None:
        return {"what": what, "why": "no checkpoint trained with one note for all was given"}
    floor = score_split(*image_only, dataset, [note] * len(dataset), batch_size=batch_size)
    metrics = {"images": len(floor), **_metrics(floor)}
    return {"what": f"{what}, {note!r}", **metrics, "above": _gained(floor, right, draws)}


def _metrics(evaluation: Evaluation) -> dict[str, float]:
    summary = evaluation.summary()
    return {name: summary[name] for name in METRICS}


def _gained(before: Evaluation, after: Evaluation, draws: _Draws, metric: str = "dice_per_image") -> dict[str, float]:
    return asdict(compare(after, before, **draws).differences[metric].difference)


__all__ = ["METRICS", "text_dependence_certificate"]
