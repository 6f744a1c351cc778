"""How sure a figure is, and whether two models differ: bootstrap over patients, and a paired comparison."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .metrics import SCORES, mean
from .scores import SURFACES, Evaluation

# So many numbers of draws are in memory at once.
_CHUNK = 2_000_000
# Of so few, a bootstrap's intervals are too narrow to be taken at their word.
FEW_CLUSTERS = 20
LOWER_IS_BETTER = SURFACES


@dataclass(frozen=True)
class Interval:
    """A figure and its interval, all in the figure's unit."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class Bootstrap:
    """Intervals of every figure of a split.

    Attributes:
        intervals: by metric, as [`Evaluation.summary`] names them (classes left out).
        level: of the intervals, such as 0.95.
        resamples, seed: of the draws.
        clusters: what was drawn: patients where they are known, images otherwise; how many there are.
        patients: those of them that are known patients.
    """

    intervals: dict[str, Interval]
    level: float
    resamples: int
    seed: int
    clusters: int
    patients: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Difference:
    """One metric of two models on the same images.

    Attributes:
        first, second: the figures.
        difference: the first minus the second, with its interval.
        p: of the Wilcoxon signed rank test on the patients' mean differences (images' where no patient is known), two-sided;
            `None` for pooled metrics, which have one value per set.
        wins, ties, losses: images of which the first is better, equal, worse; `None` likewise.
    """

    first: float
    second: float
    difference: Interval
    p: float | None = None
    wins: int | None = None
    ties: int | None = None
    losses: int | None = None


@dataclass(frozen=True)
class Comparison:
    """Two models on the same images, by metric; the other attributes as of [`Bootstrap`]. The tests are not corrected for
    there being several metrics."""

    differences: dict[str, Difference]
    level: float
    resamples: int
    seed: int
    clusters: int
    patients: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def bootstrap(
    evaluation: Evaluation, *, resamples: int = 2000, level: float = 0.95, seed: int = 0, by_patient: bool = True
) -> Bootstrap:
    """Percentile bootstrap intervals of all metrics, in both families.

    Images of one patient resemble each other, so patients are drawn with all their images (cluster bootstrap); an image
    whose patient is not known is drawn by itself. The draws of a seed are the same whatever the metric.

    Args:
        resamples: at least 1; 2000 leave an error of some 2 % of the interval's length.
        level: share of the draws within the interval, between 0 and 1.
        by_patient: `False` draws images, as if no patient were known.

    Raises:
        ValueError: a number out of range.
    """
    _check(resamples, level)
    rows, patients = _clusters(evaluation, by_patient)
    drawn = _concatenated(_figures(evaluation, rows, weights) for weights in _draws(rows, resamples, seed))
    estimates = evaluation.summary()
    intervals = {name: _interval(estimates[name], values, level) for name, values in drawn.items()}
    return Bootstrap(intervals, level, resamples, seed, int(rows.max()) + 1, patients)


def compare(
    first: Evaluation,
    second: Evaluation,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    by_patient: bool = True,
) -> Comparison:
    """Two models, image by image: differences with intervals of the cluster bootstrap, a signed rank test, and wins.

    Each draw takes the same patients of both, so that what makes an image hard for both cancels. Surface distances are
    compared where both evaluations have them.

    Raises:
        ValueError: other images (the ids that differ are named), other masks of them, or another size or unit; a number out
            of range.
    """
    _check(resamples, level)
    _check_pair(first, second)
    rows, patients = _clusters(first, by_patient)
    drawn = _concatenated(
        {name: values - other[name] for name, values in _figures(first, rows, weights).items() if name in other}
        for weights in _draws(rows, resamples, seed)
        for other in [_figures(second, rows, weights)]
    )
    ours, theirs = first.summary(), second.summary()
    differences = {}
    for name, values in drawn.items():
        interval = _interval(ours[name] - theirs[name], values, level)
        paired = _paired(first, second, name.removesuffix("_per_image"), rows) if name.endswith("_per_image") else {}
        differences[name] = Difference(ours[name], theirs[name], interval, **paired)
    return Comparison(differences, level, resamples, seed, int(rows.max()) + 1, patients)


def _clusters(evaluation: Evaluation, by_patient: bool) -> tuple[np.ndarray, int]:
    """The number of each image's cluster, `[N]`, and how many clusters are patients."""
    numbers: dict[tuple[str, str], int] = {}
    keys = [
        ("patient", image.patient) if by_patient and image.patient is not None else ("image", image.id)
        for image in evaluation.images
    ]
    rows = [numbers.setdefault(key, len(numbers)) for key in keys]
    return np.array(rows), sum(kind == "patient" for kind, _ in numbers)


def _draws(rows: np.ndarray, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each cluster is in each draw, `[R, C]` in parts."""
    clusters = int(rows.max()) + 1
    generator = np.random.default_rng(seed)
    step = max(_CHUNK // clusters, 1)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        yield generator.multinomial(clusters, np.full(clusters, 1 / clusters), size=size).astype(np.float64)


def _figures(evaluation: Evaluation, rows: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Every metric of every draw, `[R]` each."""
    clusters = weights.shape[1]
    names = [*SCORES, *(SURFACES if evaluation.has_surfaces else ())]
    sums = np.stack([np.bincount(rows, evaluation.values(name), clusters) for name in names], axis=1)
    means = (weights @ sums) / (weights @ np.bincount(rows, minlength=clusters))[:, None]
    figures = {f"{name}_per_image": means[:, index] for index, name in enumerate(names)}
    # Counts stay exact: a float64 holds whole numbers up to 2^53.
    counts = np.array([image.counts for image in evaluation.images], dtype=np.float64)
    by_cluster = np.zeros((clusters, *counts.shape[1:]))
    np.add.at(by_cluster, rows, counts)
    pooled = (weights @ by_cluster.reshape(clusters, -1)).astype(np.int64).reshape(-1, *counts.shape[1:]).tolist()
    for name, score in SCORES.items():
        figures[f"{name}_pooled"] = np.array([mean(score(tuple(row)) for row in draw) for draw in pooled])
    return figures


def _concatenated(parts: Iterator[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    tables = list(parts)
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def _interval(estimate: float, drawn: np.ndarray, level: float) -> Interval:
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return Interval(float(estimate), low, high)


def _paired(first: Evaluation, second: Evaluation, name: str, rows: np.ndarray) -> dict[str, Any]:
    differences = np.subtract(first.values(name), second.values(name))
    better = -differences if name in LOWER_IS_BETTER else differences
    by_cluster = np.bincount(rows, differences) / np.bincount(rows)
    return {
        "p": _signed_rank(by_cluster),
        "wins": int((better > 0).sum()),
        "ties": int((better == 0).sum()),
        "losses": int((better < 0).sum()),
    }


def _signed_rank(differences: np.ndarray) -> float:
    """The Wilcoxon test; 1 where nothing differs."""
    from scipy.stats import wilcoxon

    # Differences that are equal up to rounding share a rank.
    differences = differences.round(12)
    return float(wilcoxon(differences).pvalue) if differences.any() else 1.0


def _check(resamples: int, level: float) -> None:
    if resamples < 1:
        raise ValueError(f"`resamples` must be at least 1, got {resamples}.")
    if not 0 < level < 1:
        raise ValueError(f"`level` is a share between 0 and 1, such as 0.95, got {level}.")


def _check_pair(first: Evaluation, second: Evaluation) -> None:
    ours, theirs = set(first.ids), set(second.ids)
    if ours != theirs:
        only = [f"only the {name} has {_listed(ids)}" for name, ids in
                (("first", ours - theirs), ("second", theirs - ours)) if ids]  # fmt: skip
        raise ValueError(f"The evaluations are not of the same images: {'; '.join(only)}. Score both on one split.")
    for name in ("scored_at", "num_labels"):
        if getattr(first, name) != getattr(second, name):
            raise ValueError(f"`{name}` is {getattr(first, name)!r} and {getattr(second, name)!r}. Score both alike.")
    if first.has_surfaces and second.has_surfaces and first.unit != second.unit:
        raise ValueError(f"Surface distances are in {first.unit} and in {second.unit}. Score both alike.")
    for one, other in zip(first.images, second.images, strict=True):
        truths = [(image.size, [truth for _, _, truth in image.counts]) for image in (one, other)]
        if truths[0] != truths[1]:
            raise ValueError(f"Image {one.id!r} was scored against another mask, or at another size. Score both alike.")


def _listed(ids: set[str]) -> str:
    shown: Sequence[str] = sorted(ids)[:5]
    more = f" and {len(ids) - len(shown)} more" if len(ids) > len(shown) else ""
    return ", ".join(repr(name) for name in shown) + more


__all__ = ["FEW_CLUSTERS", "Bootstrap", "Comparison", "Difference", "Interval", "bootstrap", "compare"]
