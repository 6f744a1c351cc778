"""`reclmis evaluate`: a model and a split -> figures with intervals, strata and pictures, as JSON, Markdown and HTML."""

import argparse
import shlex
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import CommandError
from .loading import add_backend_argument, load_any
from .measuring import add_split_arguments, load_rows, told
from .predict import positive_integer, share


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="folder or Hub id")
    add_split_arguments(parser)
    parser.add_argument("--output", type=Path, default=Path("evaluation"),
                        help="folder for evaluation.json, report.md and report.html")  # fmt: skip
    parser.add_argument("--scored-at", choices=("native", "model", "both"), default="native",
                        help="the images' own size, or the size that the model sees")  # fmt: skip
    parser.add_argument("--surfaces", action="store_true", help="also distances between outlines (needs MONAI)")
    parser.add_argument("--spacing", nargs=2, type=float, metavar=("HEIGHT", "WIDTH"),
                        help="of a pixel in millimetres, which --surfaces are then given in")  # fmt: skip
    parser.add_argument("--against", metavar="EVALUATION_OR_MODEL",
                        help="what another model got on this split, or that model: compare the two")  # fmt: skip
    parser.add_argument("--tile", type=positive_integer, metavar="PIXELS",
                        help="ask overlapping squares of this side, as `reclmis predict` does")  # fmt: skip
    parser.add_argument("--overlap", type=share, default=0.25, help="of neighbouring tiles, 0 to below 1")
    parser.add_argument("--no-note", action="store_true", help="ask a model with a null note for all that it finds")
    add_backend_argument(parser)
    parser.add_argument("--resamples", type=positive_integer, default=2000, help="draws of the bootstrap")
    parser.add_argument("--cases", type=positive_integer, default=3, help="pictures of each kind: worst, median, best")


def run(args: argparse.Namespace) -> int:
    if args.spacing is not None and not args.surfaces:
        raise CommandError("--spacing is for surface distances; add --surfaces.")
    with told(args.output):
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    from ..data import build_manifest
    from ..evaluation.cases import draw_cases
    from ..evaluation.report import build_report, write_report
    from ..evaluation.splits import training_warning

    args.output.mkdir(parents=True, exist_ok=True)  # before anything is computed
    model, processor = load_any(args.model, args.backend, args.device, prune=True)
    if args.no_note and not model.config.note_dropout:
        raise CommandError(f"{args.model} was trained with notes only; leave --no-note out.")
    dataset = load_rows(args, args.split, model.config.image_size)
    content = build_manifest({args.split: dataset})[args.split]
    warning = training_warning(args.model, content)
    said = [] if warning is None else [warning]
    evaluations = _scored(args, model, processor, dataset)
    other, comparisons, more = _compared(args, evaluations, dataset, content["sha256"])
    said += more
    report = build_report(
        evaluations, _record(args, content), note_kind="none" if args.no_note else "right", resamples=args.resamples,
        other=other, comparisons=comparisons,
        warnings=[_portable_sentence(args, sentence) for sentence in said],
    )  # fmt: skip
    first = next(iter(evaluations.values()))
    with _announced_already():
        cases = draw_cases(model, processor, dataset, first, count=args.cases, batch_size=args.batch_size,
                           tile=args.tile, overlap=args.overlap)  # fmt: skip
    paths = write_report(args.output, report, cases)
    _announce(report)
    print(f"Written to {', '.join(str(path) for path in paths)}.")
    for sentence in report["warnings"]:
        print(f"reclmis evaluate: {sentence}", file=sys.stderr)
    return 0


def _scored(args: argparse.Namespace, model: Any, processor: Any, dataset: Any) -> dict[Any, Any]:
    """The evaluations by size."""
    from ..evaluation.scores import score_sizes

    notes: list[str | None] = [None] * len(dataset) if args.no_note else list(dataset["note"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        processor.tokenize(list(dict.fromkeys(notes)))
    for warning in caught:
        print(f"reclmis evaluate: {warning.message}", file=sys.stderr)
    sizes: Any = ("native", "model") if args.scored_at == "both" else (args.scored_at,)
    with _announced_already():
        return score_sizes(model, processor, dataset, notes, batch_size=args.batch_size, scored_at=sizes,
                           surfaces=args.surfaces, spacing=args.spacing, progress=True, tile=args.tile,
                           overlap=args.overlap)  # fmt: skip


@contextmanager
def _announced_already() -> Iterator[None]:
    """What the processor says of notes it says once, for all of them, and not with every batch."""
    from ..processing_reclmis import NoteNotNormalisedWarning, NoteTooLongWarning

    with warnings.catch_warnings():
        for category in (NoteNotNormalisedWarning, NoteTooLongWarning):
            warnings.simplefilter("ignore", category)
        yield


def _compared(
    args: argparse.Namespace, evaluations: dict[Any, Any], dataset: Any, sha256: str
) -> tuple[str | None, dict[Any, Any], list[str]]:
    """The other model's name, comparisons by size, and what a reader must know of them."""
    from ..evaluation.report import JSON, evaluations_of, read_report
    from ..evaluation.statistics import compare

    if args.against is None:
        return None, {}, []
    said: list[str] = []
    path, name = Path(args.against), _portable(args.against)
    if path.is_file() or ((path / JSON).is_file() and not (path / "config.json").is_file()):
        report = read_report(path)
        name, others = report.get("model", name), evaluations_of(report)
        if report.get("tile") != args.tile or (args.tile and report.get("overlap") != args.overlap):
            said.append(
                f"The other evaluation asked by tiles of {report.get('tile')} pixels with an overlap of "
                f"{report.get('overlap')}, this one by {args.tile} with {args.overlap}; None is the whole image."
            )
        if report.get("sha256") != sha256:
            said.append(
                "The other evaluation is of other notes or files under the same ids: the split's hashes differ."
            )
    else:
        others = _scored(args, *load_any(args.against, "torch", args.device, prune=True), dataset)
    shared = [size for size in evaluations if size in others]
    if not shared:
        raise CommandError(f"{args.against} was scored at {', '.join(others)} size; give --scored-at the same.")
    options = {"resamples": args.resamples, "seed": args.seed}
    return name, {size: compare(evaluations[size], others[size], **options) for size in shared}, said


def _announce(report: dict[str, Any]) -> None:
    from ..evaluation.report import tables_of

    for table in tables_of(report):
        widths = [max(len(row[place]) for row in (table.header, *table.rows)) for place in range(len(table.header))]
        print(f"\n{table.title}")
        for row in (table.header, *table.rows):
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print()


def _record(args: argparse.Namespace, content: dict[str, Any]) -> dict[str, Any]:
    """What somebody needs to repeat this."""
    from importlib.metadata import version

    from ..training.record import run_record

    record = run_record(
        args.seed, command=_command(args), model=_portable(args.model), backend=args.backend,
        dataset=Path(args.dataset).name, split=args.split, sha256=content["sha256"], tile=args.tile,
        overlap=args.overlap if args.tile else None,
    )  # fmt: skip
    used = [*(["monai"] if args.surfaces else []), *([args.backend] if args.backend != "torch" else [])]
    record["versions"] |= {name: version(name) for name in used}
    return record


def _command(args: argparse.Namespace) -> str:
    """The command line with every setting that the figures depend on, whoever started it."""
    words = ["reclmis", "evaluate", args.model, "--dataset", args.dataset, "--split", args.split]
    for name in ("scored_at", "backend", "batch_size", "seed", "resamples"):
        words += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
    words += ["--num-synthetic", str(args.num_synthetic)] if args.dataset == "synthetic" else []
    words += ["--surfaces"] if args.surfaces else []
    words += ["--spacing", *map(str, args.spacing)] if args.spacing else []
    words += ["--tile", str(args.tile), "--overlap", str(args.overlap)] if args.tile else []
    words += ["--no-note"] if args.no_note else []
    words += ["--data", *args.data] if args.data else []
    words += ["--against", args.against] if args.against else []
    return shlex.join(words)


def _portable(name: str) -> str:
    """A model's name without the folders of this machine."""
    from ..training.record import portable_command

    return shlex.split(portable_command(shlex.quote(name)))[0]


def _portable_sentence(args: argparse.Namespace, sentence: str) -> str:
    return sentence.replace(args.model, _portable(args.model))
