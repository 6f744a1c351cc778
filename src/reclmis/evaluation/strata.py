"""Parts of a split that are easier or harder, by what the truth shows: how large it is, and of how many areas."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .image_score import ImageScore
from .scores import Evaluation

# Shares of the image that the truth covers: name, from (included), to (left out). Of QaTa-COV19's validation images 5 % are
# tiny, 33 % small, 43 % medium and 20 % large.
SIZES = (("tiny", 0.0, 0.01), ("small", 0.01, 0.05), ("medium", 0.05, 0.15), ("large", 0.15, 1.0))
# Connected areas of the truth: from, to, both included.
AREAS: tuple[tuple[int, int | None], ...] = ((1, 1), (2, 2), (3, 3), (4, 9), (10, None))
EMPTY = "empty"
_QUARTERS = ("smallest quarter", "second quarter", "third quarter", "largest quarter")


@dataclass(frozen=True)
class Stratum:
    """Images of a split that have something in common.

    Attributes:
        name: such as `small`.
        bounds: what it means, such as `1 % to below 5 % of the image`.
        part: their scores, `None` where the split has no such image.
    """

    name: str
    bounds: str
    part: Evaluation | None

    def to_dict(self) -> dict[str, Any]:
        """Name, bounds, number of images and every metric of [`Evaluation.summary`]."""
        metrics = {"images": 0} if self.part is None else self.part.summary()
        return {"name": self.name, "bounds": self.bounds, **metrics}


def strata(evaluation: Evaluation) -> dict[str, list[Stratum]]:
    """All three ways to part a split: `size`, `quartile` and `areas`."""
    return {"size": by_size(evaluation), "quartile": by_quartile(evaluation), "areas": by_areas(evaluation)}


def by_size(evaluation: Evaluation) -> list[Stratum]:
    """By the share of the image that the truth covers, with bounds that are the same for every split (`SIZES`), so that
    splits can be compared. Images without any foreground are a stratum of their own. The strata are there also where no
    image is in them."""
    found = [Stratum(EMPTY, "nothing in the truth", evaluation.where(lambda image: image.truth_share == 0))]
    for name, low, high in SIZES:
        last = high == SIZES[-1][2]
        bounds = f"above 0 and below {_percent(high)}" if low == 0 else f"{_percent(low)} to below {_percent(high)}"
        bounds = f"{_percent(low)} or more" if last else bounds

        def inside(image: ImageScore, low: float = low, high: float = high, last: bool = last) -> bool:
            return image.truth_share > 0 and low <= image.truth_share and (last or image.truth_share < high)

        found.append(Stratum(name, f"{bounds} of the image", evaluation.where(inside)))
    return found


def by_quartile(evaluation: Evaluation) -> list[Stratum]:
    """The quarters of this split by the share of the image that the truth covers, empty truths left out. A share that lies
    on a quartile belongs to the quarter below; quarters without an image, as where sizes repeat, are left out."""
    shares = [image.truth_share for image in evaluation.images if image.truth_share > 0]
    if not shares:
        return []
    edges = [0.0, *np.quantile(shares, [0.25, 0.5, 0.75]).tolist(), max(shares)]
    found = []
    for name, low, high in zip(_QUARTERS, edges, edges[1:], strict=False):
        part = evaluation.where(_between(low, high))
        if part is not None:
            bounds = f"above {_percent(low)} up to {_percent(high)}" if low else f"up to {_percent(high)}"
            found.append(Stratum(name, f"{bounds} of the image", part))
    return found


def by_areas(evaluation: Evaluation) -> list[Stratum]:
    """By the number of connected areas of the truth (`AREAS`), numbers that no image has left out."""
    found = [Stratum("none", "no area", evaluation.where(lambda image: image.truth_areas == 0))]
    for low, high in AREAS:
        name = f"{low} or more" if high is None else str(low) if low == high else f"{low} to {high}"

        def inside(image: ImageScore, low: int = low, high: int | None = high) -> bool:
            return low <= image.truth_areas and (high is None or image.truth_areas <= high)

        found.append(Stratum(name, f"{name} area{'' if name == '1' else 's'}", evaluation.where(inside)))
    return [stratum for stratum in found if stratum.part is not None]


def _between(low: float, high: float) -> Callable[[ImageScore], bool]:
    return lambda image: low < image.truth_share <= high


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


__all__ = ["AREAS", "SIZES", "Stratum", "by_areas", "by_quartile", "by_size", "strata"]
