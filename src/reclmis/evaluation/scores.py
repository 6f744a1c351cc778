"""A model's scores on a split, image by image: what every table, interval and comparison is made from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from tqdm.auto import tqdm

from .image_score import ImageScore, count_areas, score_image
from .metrics import SCORES, foreground_classes, mean, summarise
from .predictions import ScoredAt, answers
from .surfaces import checked_spacing

# Names of the two numbers of `surfaces`.
SURFACES = ("hd95", "assd")


@dataclass(frozen=True)
class Evaluation:
    """The scores of a split, sorted by id.

    Attributes:
        images: at least one; ids differ.
        num_labels: K of the model.
        scored_at: `"native"`, the images' own size, or `"model"`, the size that the model sees.
        unit: of surface distances: `"pixels"` or `"millimetres"`.

    Raises:
        ValueError: no image, an id twice, another number of classes, or surfaces of some images only.
    """

    images: tuple[ImageScore, ...]
    num_labels: int = 1
    scored_at: ScoredAt = "native"
    unit: str = "pixels"

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", tuple(sorted(self.images, key=lambda image: image.id)))
        if not self.images:
            raise ValueError("No image was scored. Give a split with at least one.")
        if self.scored_at not in get_args(ScoredAt):
            raise ValueError(f"`scored_at` must be 'native' or 'model', got {self.scored_at!r}.")
        twice = [one.id for one, other in zip(self.images, self.images[1:], strict=False) if one.id == other.id]
        if twice:
            raise ValueError(f"The id {twice[0]!r} is there twice; ids must be unique.")
        classes = len(foreground_classes(self.num_labels))
        for image in self.images:
            if len(image.counts) != classes:
                raise ValueError(f"Image {image.id!r} has counts of {len(image.counts)} classes, not {classes}.")
        if len({image.surfaces is None for image in self.images}) > 1:
            raise ValueError("Some images have surface distances and some have none. Score them alike.")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(image.id for image in self.images)

    @property
    def has_surfaces(self) -> bool:
        return self.images[0].surfaces is not None

    def summary(self) -> dict[str, float]:
        """Dice, IoU, sensitivity and precision in both families, equal to those of [`SegmentationMeter`];
        `hd95_per_image` and `assd_per_image`, where asked for, in `unit`; and `images`, their number."""
        metrics = summarise([image.counts for image in self.images], foreground_classes(self.num_labels))
        images = metrics.pop("images")
        if self.has_surfaces:
            for name in SURFACES:
                metrics[f"{name}_per_image"] = mean(self.values(name))
        return {**metrics, "images": images}

    def values(self, name: str) -> list[float]:
        """One metric of every image: `dice`, `iou`, `sensitivity`, `precision`, `hd95` or `assd`.

        Raises:
            ValueError: another metric, or surface distances that were not computed.
        """
        if name not in (*SCORES, *SURFACES):
            raise ValueError(f"There is no metric {name!r} of an image; there are {', '.join([*SCORES, *SURFACES])}.")
        if name in SURFACES and not self.has_surfaces:
            raise ValueError(f"{name!r} was not computed. Score the split with `surfaces=True`.")
        return [getattr(image, name) for image in self.images]

    def where(self, chosen: Callable[[ImageScore], bool]) -> "Evaluation | None":
        """The part for whose images `chosen` holds; `None` where it does for none."""
        images = tuple(image for image in self.images if chosen(image))
        return replace(self, images=images) if images else None

    def to_dict(self) -> dict[str, Any]:
        """For JSON: [`from_dict`] makes an equal evaluation of it."""
        return {
            "scored_at": self.scored_at,
            "num_labels": self.num_labels,
            "unit": self.unit,
            "images": [image.to_dict() for image in self.images],
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Evaluation":
        """The inverse of [`to_dict`].

        Raises:
            ValueError: what that did not write.
        """
        try:
            images = tuple(ImageScore.from_dict(row) for row in record["images"])
            return cls(images, int(record["num_labels"]), record["scored_at"], record["unit"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"This is no evaluation of this library: {error!r}. Write it anew.") from error


def score_split(
    model: Any,
    processor: Any,
    dataset: Any,
    notes: Sequence[str | None] | None = None,
    *,
    batch_size: int = 16,
    scored_at: ScoredAt = "native",
    surfaces: bool = False,
    spacing: Sequence[float] | None = None,
    progress: bool = False,
    tile: int | None = None,
    overlap: float = 0.25,
) -> Evaluation:
    """Scores a model on a split. Holds one batch of images in memory.

    Args:
        model: a [`RecLMISModel`], which is put into evaluation mode, or a [`reclmis.exported.ExportedModel`].
        processor: its processor.
        dataset: of HF datasets, with `image`, `mask`, `note` and `id`, and perhaps `patient`.
        notes: one per row in place of the dataset's own; `None` in it is no note, for models with a null note.
        batch_size: images per forward pass. Scores do not depend on it, but a pixel whose logit is next to zero may fall on
            the other side in another batch.
        scored_at: see [`reclmis.evaluation.predictions.answers`].
        surfaces: also compute surface distances, which takes MONAI.
        spacing: height and width in millimetres of a pixel of the images as they are, for surface distances; without it
            they are in pixels of the size scored.
        progress: show a bar.
        tile, overlap: ask by tiles, see [`reclmis.prediction.predict`]; at native size.

    Raises:
        MissingPackageError: surfaces without MONAI.
        ValueError: see [`reclmis.evaluation.predictions.answers`] and [`Evaluation`].
    """
    sizes = score_sizes(
        model, processor, dataset, notes, batch_size=batch_size, scored_at=(scored_at,), surfaces=surfaces,
        spacing=spacing, progress=progress, tile=tile, overlap=overlap,
    )  # fmt: skip
    return sizes[scored_at]


def score_sizes(
    model: Any,
    processor: Any,
    dataset: Any,
    notes: Sequence[str | None] | None = None,
    *,
    batch_size: int = 16,
    scored_at: Sequence[ScoredAt] = ("native", "model"),
    surfaces: bool = False,
    spacing: Sequence[float] | None = None,
    progress: bool = False,
    tile: int | None = None,
    overlap: float = 0.25,
) -> dict[ScoredAt, Evaluation]:
    """[`score_split`] at several sizes, each image asked once."""
    steps = checked_spacing(spacing)
    asked = list(dataset["note"]) if notes is None else list(notes)
    patients = list(dataset["patient"]) if "patient" in dataset.column_names else [None] * len(dataset)
    scores: dict[ScoredAt, list[ImageScore]] = {size: [] for size in scored_at}
    num_labels = model.config.num_labels
    found = answers(model, processor, dataset, asked, batch_size=batch_size, scored_at=scored_at,
                    tile=tile, overlap=overlap)  # fmt: skip
    one_by_one = tqdm((answer for batch in found for answer in batch), "evaluate", len(dataset), disable=not progress)
    for answer, patient in zip(one_by_one, patients, strict=True):
        for size, mask in answer.masks.items():
            # A pixel of a smaller image is a larger piece of the patient.
            native = answer.sample["original_size"]
            grown = [step * before / now for step, before, now in zip(steps, native, mask.shape, strict=True)]
            scores[size].append(
                score_image(
                    answer.sample["id"], mask, answer.truths[size], num_labels=num_labels, note=answer.note,
                    patient=patient, presence=answer.presence, surfaces=surfaces,
                    spacing=None if spacing is None else grown,
                )
            )  # fmt: skip
    unit = "pixels" if spacing is None else "millimetres"
    return {size: Evaluation(tuple(images), num_labels, size, unit) for size, images in scores.items()}


__all__ = ["SURFACES", "Evaluation", "ImageScore", "count_areas", "score_image", "score_sizes", "score_split"]
