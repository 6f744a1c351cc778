"""Figures of the checks: curves of deletion and insertion, and of similarity while weights turn to noise."""

from collections.abc import Mapping
from typing import Any

from ..visualization import COLOURS
from .checks import DeletionInsertion, RandomisationCheck
from .drawing import GREY, axes_at
from .layout import MARGIN, WIDTH, Block, stacked

# What figures call the maps of an explanation.
NAMES = {
    "grad_cam": "Grad-CAM",
    "patch_interest": "patches of interest (W_poi)",
    "word_interest": "words of interest (W_woi)",
    "visual": "before the note (V)",
    "interacted": "after the note (V')",
    "word_attention": "where words look",
    "probability": "the mask's probability",
}
_DOWN = 2.5
_SCORES = {"probability": "mean probability in the mask", "dice": "Dice with the mask"}


def deletion_insertion_curves(results: Mapping[str, DeletionInsertion]) -> Any:
    """Curves of several maps against the random order, deletion on the left, insertion on the right.

    Args:
        results: by the map's name, of one image, note and score, with one seed.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        MissingPackageError: `pip install reclmis[explain]` is due.
        ValueError: no results, or results whose random orders or scores differ.
    """
    return stacked([deletion_insertion_block(results)])


def deletion_insertion_block(results: Mapping[str, DeletionInsertion]) -> Block:
    """[`deletion_insertion_curves`] as a block."""
    if len({(result.score, result.shares, result.random_deletion) for result in results.values()}) != 1:
        raise ValueError(
            "Curves of one figure need one image, note, score, number of cells and seed, and at least one map."
        )
    one = next(iter(results.values()))
    sides = (
        ("deletion", "Deletion: the sooner it falls, the better", "share of the image that is blurred"),
        ("insertion", "Insertion: the sooner it rises, the better", "share of the blurred image that is brought back"),
    )

    def draw(figure: Any, top: float) -> None:
        across = (WIDTH - 2 * MARGIN - 1.0) / 2
        for number, (side, title, label) in enumerate(sides):
            axes = _plot(figure, (MARGIN + 0.4 + number * (across + 0.6), top + 0.45, across, _DOWN), title)
            for name, result in results.items():
                line = f"{NAMES.get(name, name)}: {result.areas[side]:.2f}"
                axes.plot(result.shares, getattr(result, side), label=line, color=_colour(name), linewidth=1.8)
            axes.plot(one.shares, getattr(one, f"random_{side}"), color="0.5", linestyle="--", linewidth=1.5,
                      label=f"random orders: {one.areas[f'random_{side}']:.2f}")  # fmt: skip
            axes.set_ylim(-0.03, 1.03)
            axes.set_xlim(0, 1)
            axes.set_xlabel(label, fontsize=8.5)
            axes.set_ylabel(_SCORES[one.score], fontsize=8.5)
            kept = f"area under the curve; wholly blurred, {one.kept:.0%} of the score stays"
            _legend(axes, kept, -0.2, columns=2)

    return Block(_DOWN + 1.75, draw)


def randomisation_curves(check: RandomisationCheck) -> Any:
    """How alike each map is to its original while more and more of the weights are noise.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        MissingPackageError: `pip install reclmis[explain]` is due.
    """
    return stacked([randomisation_block(check)])


def randomisation_block(check: RandomisationCheck) -> Block:
    """[`randomisation_curves`] as a block."""

    def draw(figure: Any, top: float) -> None:
        axes = _plot(figure, (MARGIN + 0.4, top + 0.45, WIDTH - 2 * MARGIN - 0.4, _DOWN),
                     "Weights replaced by noise, from the mask to the image: maps that explain change")  # fmt: skip
        places = range(len(check.stages) + 1)
        for name, values in check.similarity.items():
            axes.plot(places, (1.0, *values), marker="o", markersize=4, color=_colour(name), linewidth=1.8,
                      label=f"{NAMES.get(name, name)}: {values[-1]:.2f}")  # fmt: skip
        axes.axhline(0, color="0.6", linewidth=0.8)
        axes.set_ylim(-1.05, 1.05)
        axes.set_xticks(list(places), ["none", *(stage.replace(" ", "\n", 1) for stage in check.stages)], fontsize=8)
        axes.set_xlabel("replaced last", fontsize=8.5)
        axes.set_ylabel("rank correlation with the original", fontsize=8.5)
        _legend(axes, "correlation at the end", -0.27, columns=4)

    return Block(_DOWN + 2.0, draw)


def _plot(figure: Any, box: Any, title: str) -> Any:
    axes = axes_at(figure, box)
    axes.set_title(title, fontsize=11, fontweight="bold", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    return axes


def _legend(axes: Any, title: str, below: float, columns: int) -> None:
    """Below the axis, where no curve goes."""
    legend = axes.legend(loc="upper left", bbox_to_anchor=(0, below), ncols=columns, fontsize=8.5, frameon=False,
                         title=title, title_fontsize=8.5, alignment="left", borderaxespad=0)  # fmt: skip
    legend.get_title().set_color(GREY)


def _colour(name: str) -> tuple[float, ...]:
    order = [*NAMES]
    place = order.index(name) if name in order else len(name)
    palette = (*COLOURS, (90, 90, 90))
    return tuple(channel / 255 for channel in palette[place % len(palette)])


__all__ = ["deletion_insertion_block", "deletion_insertion_curves", "randomisation_block", "randomisation_curves"]
