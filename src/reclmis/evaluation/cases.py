"""Pictures of a split's best, worst and median images, which say what a mean does not."""

from dataclasses import dataclass
from typing import Any

from PIL import Image

from ..visualization import agreement
from .image_score import ImageScore
from .predictions import answers
from .scores import Evaluation

TITLES = ("worst", "median", "best")


@dataclass(frozen=True)
class Case:
    """One image with its answer.

    Attributes:
        score: of the image.
        image: RGB, at the size that was scored.
        agreement: the same with what was found in green, missed in red, and too much in blue.
    """

    score: ImageScore
    image: Image.Image
    agreement: Image.Image


def choose_cases(evaluation: Evaluation, count: int = 3) -> dict[str, list[ImageScore]]:
    """The images of the lowest, of the middle, and of the highest Dice, each kind from lower to higher; equal ones by id. No
    image is there twice: a split of fewer than three times `count` images gives fewer, and one of fewer than three no
    median.

    Raises:
        ValueError: a count below 1.
    """
    if count < 1:
        raise ValueError(f"`count` must be at least 1, got {count}.")
    order = sorted(evaluation.images, key=lambda image: (image.dice, image.id))
    each = max(min(count, len(order) // 3), 1)
    middle = (len(order) - each) // 2
    best = order[-each:] if len(order) > 1 else []
    return {"worst": order[:each], "median": order[middle : middle + each] if len(order) > 2 else [], "best": best}


def draw_cases(
    model: Any,
    processor: Any,
    dataset: Any,
    evaluation: Evaluation,
    *,
    count: int = 3,
    batch_size: int = 16,
    tile: int | None = None,
    overlap: float = 0.25,
) -> dict[str, list[Case]]:
    """Asks a model again about the images of [`choose_cases`], and draws its answers at the size that was scored.

    Args:
        model, processor, dataset: what the evaluation is of.
        count: images of each kind.
        tile, overlap: as the evaluation asked.

    Raises:
        ValueError: an image of the evaluation that the dataset does not have.
    """
    chosen = choose_cases(evaluation, count)
    places = {name: row for row, name in enumerate(dataset["id"])}
    scores = [score for kind in TITLES for score in chosen[kind]]
    absent = [score.id for score in scores if score.id not in places]
    if absent:
        raise ValueError(f"The dataset has no image {absent[0]!r}. Give the split that was evaluated.")
    rows = dataset.select([places[score.id] for score in scores])
    drawn: dict[str, Case] = {}
    notes = [score.note for score in scores]
    size = evaluation.scored_at
    options: dict[str, Any] = {"batch_size": batch_size, "scored_at": (size,), "tile": tile, "overlap": overlap}
    for batch in answers(model, processor, rows, notes, **options):
        for answer in batch:
            mask, truth = answer.masks[size].numpy(), answer.truths[size].numpy()
            image = Image.fromarray(answer.sample["image"]).resize(mask.shape[::-1], Image.Resampling.BILINEAR)
            score = scores[len(drawn)]
            drawn[score.id] = Case(score, image, agreement(image, mask, truth))
    return {kind: [drawn[score.id] for score in chosen[kind]] for kind in TITLES if chosen[kind]}


__all__ = ["TITLES", "Case", "choose_cases", "draw_cases"]
