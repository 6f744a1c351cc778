"""`reclmis robustness`: a model on worse images and other datasets and its probabilities, as JSON, Markdown and a figure."""

import argparse
import sys
from pathlib import Path
from typing import Any

from . import CommandError
from .loading import load_model
from .measuring import add_split_arguments, announce, as_json, load_rows, record_of, told, write_results

JSON, MARKDOWN, FIGURE = "robustness.json", "robustness.md", "robustness.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="folder or Hub id")
    add_split_arguments(parser)
    parser.add_argument("--shift", nargs="+", default=[], metavar="DATASET",
                        help="other datasets, of which the same split is asked and described")  # fmt: skip
    parser.add_argument("--train-split", default="train",
                        help="what the model learned from, to compare the splits with; 'none' leaves that out")  # fmt: skip
    parser.add_argument("--corruptions", nargs="*", metavar="NAME", help="by default all; no name: none")
    parser.add_argument("--output", type=Path, default=Path("robustness"),
                        help=f"folder for {JSON}, {MARKDOWN} and {FIGURE}")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    with told(args.output):
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    from ..evaluation.robustness import measure_robustness
    from ..evaluation.robustness_report import robustness_figure, robustness_markdown, save_figure

    args.output.mkdir(parents=True, exist_ok=True)  # before anything is computed
    model, processor = load_model(args.model, prune=True, device=args.device)
    size = model.config.image_size
    dataset = load_rows(args, args.split, size)
    measured = measure_robustness(
        model, processor, dataset, None if args.train_split == "none" else load_rows(args, args.train_split, size),
        others=_others(args, size), corruptions=args.corruptions, seed=args.seed, batch_size=args.batch_size,
        progress=lambda text: print(text, file=sys.stderr),
    )  # fmt: skip
    report = {**record_of(args, "robustness", dataset, _flags(args)), **measured}
    paths = write_results(args.output, {JSON: as_json(report), MARKDOWN: robustness_markdown(report, FIGURE)})
    paths.append(save_figure(robustness_figure(report), args.output / FIGURE))
    print(f"Written to {', '.join(map(str, paths))}.")
    return announce(report, "robustness")


def _others(args: argparse.Namespace, size: int) -> dict[str, Any]:
    others: dict[str, Any] = {}
    for name in args.shift:
        short = Path(name).name
        if short in others or short == Path(args.dataset).name:
            raise CommandError(f"two datasets are called {short!r}; give them other names, or one of them.")
        others[short] = load_rows(args, args.split, size, name)
    return others


def _flags(args: argparse.Namespace) -> list[str]:
    words = ["--train-split", args.train_split]
    words += ["--shift", *args.shift] if args.shift else []
    return words + (["--corruptions", *args.corruptions] if args.corruptions is not None else [])
