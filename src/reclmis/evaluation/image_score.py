"""The score of one image."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.patients import patient_of
from .metrics import (
    SCORES,
    ClassCounts,
    Counts,
    count_pixels,
    dice_of,
    foreground_classes,
    iou_of,
    mean,
    precision_of,
    sensitivity_of,
)
from .surfaces import Distances, surface_distances


@dataclass(frozen=True)
class ImageScore:
    """The score of one image.

    Attributes:
        id: of the sample.
        patient: whom it shows, `None` where that is not known.
        note: as asked; `None` is no note.
        size: height and width that were scored, in pixels.
        counts: per foreground class the pixels in both, in the prediction, and in the truth.
        truth_areas: connected areas of the truth's foreground, any class; diagonal neighbours touch.
        surfaces: per foreground class the 95 % Hausdorff and the average symmetric surface distance (see
            [`surface_distances`], also for empty masks), `None` where they were not asked for.
        presence: probability that the image shows what the note describes, `None` for models that do not judge it.
    """

    id: str
    patient: str | None
    note: str | None
    size: tuple[int, int]
    counts: Counts
    truth_areas: int
    surfaces: tuple[Distances, ...] | None = None
    presence: float | None = None

    @property
    def dice(self) -> float:
        """Mean over the foreground classes, as the following. Empty masks as in [`SegmentationMeter`]."""
        return self._mean(dice_of)

    @property
    def iou(self) -> float:
        return self._mean(iou_of)

    @property
    def sensitivity(self) -> float:
        return self._mean(sensitivity_of)

    @property
    def precision(self) -> float:
        return self._mean(precision_of)

    @property
    def hd95(self) -> float | None:
        return None if self.surfaces is None else mean(row[0] for row in self.surfaces)

    @property
    def assd(self) -> float | None:
        return None if self.surfaces is None else mean(row[1] for row in self.surfaces)

    @property
    def truth_share(self) -> float:
        """Share of the image that the truth's foreground covers, 0 to 1."""
        return sum(truth for _, _, truth in self.counts) / (self.size[0] * self.size[1])

    @property
    def found_nothing(self) -> bool:
        """The prediction is empty."""
        return not any(ours for _, ours, _ in self.counts)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; scores are written beside the counts that they follow from."""
        return {
            "id": self.id,
            "patient": self.patient,
            "note": self.note,
            "size": list(self.size),
            "counts": [list(row) for row in self.counts],
            "truth_areas": self.truth_areas,
            "surfaces": None if self.surfaces is None else [list(row) for row in self.surfaces],
            "presence": self.presence,
            **{name: getattr(self, name) for name in SCORES},
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> "ImageScore":
        """The inverse. Raises KeyError, TypeError or ValueError for what [`to_dict`] did not write."""
        surfaces = row["surfaces"]
        return cls(
            id=row["id"],
            patient=row["patient"],
            note=row["note"],
            size=_pair(row["size"]),
            counts=tuple((int(both), int(ours), int(truth)) for both, ours, truth in row["counts"]),
            truth_areas=int(row["truth_areas"]),
            surfaces=None if surfaces is None else tuple((float(far), float(average)) for far, average in surfaces),
            presence=row["presence"],
        )

    def _mean(self, score: Callable[[ClassCounts], float]) -> float:
        return mean(map(score, self.counts))


def score_image(
    id: str,
    prediction: Any,
    target: Any,
    *,
    num_labels: int = 1,
    note: str | None = None,
    patient: str | None = None,
    presence: float | None = None,
    surfaces: bool = False,
    spacing: Sequence[float] | None = None,
) -> ImageScore:
    """The score of one mask, wherever it is from.

    Args:
        prediction, target: class indices `[H, W]`.
        patient: `None` asks the id, see [`reclmis.data.patient_of`].
        spacing: of these masks' pixels, see [`surface_distances`].

    Raises:
        MissingPackageError: surfaces without MONAI.
        ValueError: unequal sizes, or values that are no class.
    """
    counts = count_pixels(prediction, target, foreground_classes(num_labels), f"Image {id!r}")
    height, width = target.shape
    return ImageScore(
        id=id,
        patient=patient or patient_of(id),
        note=note,
        size=(int(height), int(width)),
        counts=counts,
        truth_areas=count_areas(target),
        surfaces=surface_distances(prediction, target, num_labels, spacing) if surfaces else None,
        presence=presence,
    )


def count_areas(mask: Any) -> int:
    """Connected areas of whatever is not 0 in `[H, W]`; diagonal neighbours touch, as in [`reclmis.notes.fits`]."""
    from scipy import ndimage

    return int(ndimage.label(np.asarray(mask) != 0, structure=np.ones((3, 3)))[1])


def _pair(values: Iterable[int]) -> tuple[int, int]:
    height, width = values
    return int(height), int(width)


__all__ = ["ImageScore", "count_areas", "score_image"]
