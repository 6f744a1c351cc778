"""Whether an explanation explains: it must change with the weights, and what it marks must matter to the mask."""

# Shapes: H, W of the image.

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import nn

from ..images import to_rgb8
from .borrowing import evaluating
from .gradcam import grad_cam
from .maps import explain

# Of an explanation: fields whose maps are compared.
_FIELDS = ("patch_interest", "visual", "interacted", "word_attention", "word_interest", "probability")


@dataclass(frozen=True)
class RandomisationCheck:
    """How alike maps stay while the weights are replaced by noise, part by part (Adebayo et al. 2018).

    Attributes:
        seed: of the noise.
        stages: what was replaced last; whatever a stage names stays replaced in all that follow.
        similarity: by the map's name Spearman's rank correlation with the map of the intact model after each stage, -1 to 1.
            A map that is computed before a part cannot change with it. A constant map ranks nothing: 0.
    """

    seed: int
    stages: tuple[str, ...]
    similarity: dict[str, tuple[float, ...]]

    def changed(self, limit: float = 0.5) -> dict[str, bool]:
        """By the map's name, whether its similarity ends between `-limit` and `limit`. One that does not may show the
        image rather than what was learned."""
        return {name: abs(values[-1]) <= limit for name, values in self.similarity.items()}

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "changed": self.changed()}


def randomisation_check(
    model: Any, processor: Any, image: Any, note: str | None, *, seed: int = 0, threshold: float = 0.5
) -> RandomisationCheck:
    """Replaces the weights from the mask's end to the image's, and compares every map with its original.

    A tensor is drawn anew from a normal distribution of its own mean and deviation, so that activations keep their scale.
    Grad-CAM keeps its question: the region that the intact model marked. The model itself stays as it is.

    Args:
        model, processor, image, note, threshold: as of [`reclmis.explanation.explain`].
        seed: of the noise.

    Raises:
        ValueError: what [`reclmis.explanation.explain`] refuses, or the model marks nothing.
        MissingPackageError: `pip install reclmis[explain]` is due.
    """
    picture = to_rgb8(image)
    first = explain(model, processor, picture, note, threshold=threshold)
    region = first.mask > 0
    if not region.any():
        raise ValueError("The model marks nothing here, so there is no mask whose explanation could be checked.")
    damaged = copy.deepcopy(model)
    draw = torch.Generator().manual_seed(seed)

    def maps() -> dict[str, np.ndarray]:
        now = explain(damaged, processor, picture, note, threshold=threshold)
        found = {name: np.asarray(getattr(now, name)) for name in _FIELDS if getattr(now, name) is not None}
        cam = grad_cam(damaged, processor, picture, note, region=region)
        return {"grad_cam": cam, **{name: values for name, values in found.items() if values.size > 1}}

    original = maps()
    stages, similarity = [], {name: [] for name in original}  # type: ignore[var-annotated]
    for stage, part in parts_from_the_mask(damaged):
        _randomise(part, draw)
        stages.append(stage)
        for name, values in maps().items():
            similarity[name].append(rank_correlation(original[name], values))
    return RandomisationCheck(seed, tuple(stages), {name: tuple(values) for name, values in similarity.items()})


def parts_from_the_mask(model: Any) -> Iterator[tuple[str, nn.Module]]:
    """Names and parts of a model, from the mask back to the image and the note."""
    yield "mask head", model.decoder.head
    for number, block in reversed(list(enumerate(model.decoder.blocks, 1))):
        yield f"decoder layer {number}", block
    heads = [head for head in (model.patch_interest, model.word_interest) if head is not None]
    if heads:
        yield "heads of interest", nn.ModuleList(heads)
    yield "interaction", model.interaction
    yield "word projection", model.word_projection
    yield "text encoder", model.text_encoder
    yield "visual backbone", nn.ModuleList([model.visual_projection, model.visual_backbone])


@torch.no_grad()
def _randomise(part: nn.Module, draw: torch.Generator) -> None:
    for parameter in part.parameters():
        values = parameter.detach().float().cpu()
        deviation = values.std() if values.numel() > 1 else values.abs().mean()
        parameter.copy_(values.mean() * (values.numel() > 1) + deviation * torch.randn(values.shape, generator=draw))


def rank_correlation(one: Any, other: Any) -> float:
    """Spearman's, over all values of two arrays; 0 where either is constant."""
    from scipy.stats import spearmanr

    one, other = np.asarray(one), np.asarray(other)
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(spearmanr(one.ravel(), other.ravel()).statistic)


@dataclass(frozen=True)
class DeletionInsertion:
    """How a mask fades while an image is taken away, and appears while it is brought back (Petsiuk et al. 2018).

    Attributes:
        score: what is measured, see [`deletion_insertion`].
        shares: of the image that is replaced or brought back, 0 to 1.
        deletion, insertion: scores in the map's order, one per share.
        random_deletion, random_insertion: means over random orders.
        random_orders, seed: how many of them, and where they come from.
        cells: rows and columns that the image was cut into.
    """

    score: str
    shares: tuple[float, ...]
    deletion: tuple[float, ...]
    insertion: tuple[float, ...]
    random_deletion: tuple[float, ...]
    random_insertion: tuple[float, ...]
    random_orders: int
    seed: int
    cells: tuple[int, int]

    @property
    def areas(self) -> dict[str, float]:
        """Areas under the four curves, 0 to 1. Low deletion and high insertion speak for the map."""
        names = ("deletion", "insertion", "random_deletion", "random_insertion")
        return {name: float(np.trapezoid(getattr(self, name), self.shares)) for name in names}

    @property
    def better_than_random(self) -> bool:
        """Whether the map's order beats the random ones both ways."""
        areas = self.areas
        return areas["deletion"] < areas["random_deletion"] and areas["insertion"] > areas["random_insertion"]

    @property
    def kept(self) -> float:
        """Share of the score that the wholly blurred image keeps. Near 1 the mask comes from elsewhere, such as from the
        note, and the curves say little of any map."""
        return self.deletion[-1] / self.deletion[0]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "kept": self.kept, "areas": self.areas, "better_than_random": self.better_than_random}


def deletion_insertion(
    model: Any,
    processor: Any,
    image: Any,
    note: str | None,
    maps: Mapping[str, np.ndarray],
    *,
    score: str = "probability",
    cells: tuple[int, int] = (12, 12),
    steps: int = 12,
    blur: float = 0.1,
    random_orders: int = 5,
    seed: int = 0,
    threshold: float = 0.5,
    batch_size: int = 16,
) -> dict[str, DeletionInsertion]:
    """Replaces the image cell by cell with its blurred self, the most important first, and scores what is left; and the
    other way round, from the blurred image to the image. All maps are compared with the same random orders.

    Args:
        model, processor, image, note: as of [`reclmis.explanation.explain`]; a pruned model serves too.
        maps: by any names, how much each pixel matters, `[H, W]` at the image's size; a cell counts by its mean.
        score: of each picture, held against the mask of the whole image: `"probability"` is the mean foreground
            probability inside it, `"dice"` the Dice with it. Presence scores are left aside.
        cells: rows and columns, at most the image's height and width, which makes a cell a pixel.
        steps: scores per curve, besides the first.
        blur: deviation of the Gaussian, as a share of the image's longer side.
        random_orders: orders of the same cells to compare with.
        seed: of these orders.
        threshold: of the foreground probability (of any class) from which a pixel belongs to a mask.
        batch_size: pictures per forward pass.

    Raises:
        ValueError: a value out of range, a map of another size, or a model that marks nothing.
    """
    picture = to_rgb8(image)
    size = (picture.height, picture.width)
    _check_settings(size, score, cells, steps, blur, random_orders)
    cell, number = _cell_numbers(size, cells), cells[0] * cells[1]
    orders = {name: _order(name, importance, cell) for name, importance in maps.items()}
    scorer = _Scorer(model, processor, picture, note, score, threshold, batch_size)
    whole = np.asarray(picture)
    blurred = np.asarray(picture.filter(ImageFilter.GaussianBlur(blur * max(size))))
    counts = np.unique(np.linspace(0, number, steps + 1).round().astype(int))

    def curves(order: np.ndarray) -> tuple[list[float], list[float]]:
        rank = np.empty(number, dtype=int)
        rank[order] = np.arange(number)
        taken = [(rank[cell] < count)[..., None] for count in counts]
        return (
            scorer([np.where(first, blurred, whole) for first in taken]),
            scorer([np.where(first, whole, blurred) for first in taken]),
        )

    draw = np.random.default_rng(seed)
    random = np.mean([curves(draw.permutation(number)) for _ in range(random_orders)], axis=0).tolist()
    found = {}
    for name, order in orders.items():
        deletion, insertion = curves(order)
        found[name] = DeletionInsertion(
            score, tuple((counts / number).tolist()), tuple(deletion), tuple(insertion), tuple(random[0]),
            tuple(random[1]), random_orders, seed, cells,
        )  # fmt: skip
    return found


class _Scorer:
    """Scores pictures by what a model answers within the mask of the first."""

    def __init__(self, model, processor, picture: Image.Image, note, score: str, threshold: float, batch_size: int):
        self.model, self.processor, self.note, self.score = model, processor, note, score
        self.size, self.threshold, self.batch_size = (picture.height, picture.width), threshold, batch_size
        (probability,) = self._probabilities([picture])
        self.mask = probability >= threshold
        if not self.mask.any():
            raise ValueError("The model marks nothing here, so there is no mask that could fade.")

    def __call__(self, pictures: Sequence[np.ndarray]) -> list[float]:
        return [self._score(probability) for probability in self._probabilities(map(Image.fromarray, pictures))]

    def _score(self, probability: torch.Tensor) -> float:
        if self.score == "probability":
            return float(probability[self.mask].mean())
        found = probability >= self.threshold
        return float(2 * (found & self.mask).sum() / (found.sum() + self.mask.sum()))

    @torch.no_grad()
    def _probabilities(self, pictures: Any) -> list[torch.Tensor]:
        """Foreground probabilities at the image's size."""
        pictures, found = list(pictures), []
        with evaluating(self.model):
            for start in range(0, len(pictures), self.batch_size):
                batch = pictures[start : start + self.batch_size]
                inputs = self.processor(images=batch, text=[self.note] * len(batch), return_tensors="pt")
                outputs = self.model(**inputs.to(self.model.device))
                found += self.processor.post_process_semantic_segmentation(
                    outputs, target_sizes=[self.size] * len(batch), return_probabilities=True, presence_threshold=0
                )
        return [each.cpu() if each.ndim == 2 else 1 - each[0].cpu() for each in found]


def _cell_numbers(size: tuple[int, int], cells: tuple[int, int]) -> np.ndarray:
    """`[H, W]`, the number of each pixel's cell, row by row."""
    rows, columns = (np.arange(side) * count // side for side, count in zip(size, cells, strict=True))
    return rows[:, None] * cells[1] + columns[None]


def _order(name: str, importance: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Numbers of the cells, the most important first; among equals row by row."""
    if np.shape(importance) != cell.shape:
        raise ValueError(
            f"The image is {cell.shape[0]} x {cell.shape[1]}, but the shape of the map {name!r} is {np.shape(importance)}."
        )
    if not np.isfinite(importance).all():
        raise ValueError(f"The map {name!r} holds nan or infinite values, which have no order.")
    weights = np.bincount(cell.ravel(), np.asarray(importance, dtype=np.float64).ravel()) / np.bincount(cell.ravel())
    return np.argsort(-weights, kind="stable")


def _check_settings(size, score, cells, steps, blur, random_orders) -> None:
    if score not in ("probability", "dice"):
        raise ValueError(f"`score` must be 'probability' or 'dice', got {score!r}.")
    if not all(1 <= count <= side for count, side in zip(cells, size, strict=True)):
        raise ValueError(f"`cells` must lie between 1 x 1 and the image's {size[0]} x {size[1]}, got {cells}.")
    if steps < 1 or random_orders < 1:
        raise ValueError(f"`steps` and `random_orders` must be at least 1, got {steps} and {random_orders}.")
    if not blur > 0:
        raise ValueError(f"`blur` must be above 0, got {blur}.")


__all__ = ["DeletionInsertion", "RandomisationCheck", "deletion_insertion", "randomisation_check", "rank_correlation"]
