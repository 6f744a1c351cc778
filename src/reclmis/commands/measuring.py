"""What commands that measure a model on a split have in common."""

import argparse
import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import CommandError
from .predict import positive_integer


def add_split_arguments(parser: argparse.ArgumentParser) -> None:
    """Which images, and how they are asked."""
    parser.add_argument("--dataset", required=True, help="folder, table or name, as training takes it")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--data", nargs="*", default=[], metavar="OPTION=JSON",
                        help="options of the dataset, such as num_labels=3")  # fmt: skip
    parser.add_argument("--num-synthetic", type=positive_integer, default=400,
                        help="as in training on `synthetic`; its validation part is new")  # fmt: skip
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=positive_integer, default=16)
    parser.add_argument("--seed", type=int, default=0, help="of all that is random, and of the synthetic set")


@contextmanager
def told(output: Path) -> Iterator[None]:
    """What is wrong with a request, its data or its folder becomes one sentence.

    Raises:
        CommandError: with it.
    """
    from ..errors import MissingPackageError, one_line

    try:
        yield
    except (ValueError, TypeError, FileNotFoundError, MissingPackageError) as error:
        raise CommandError(one_line(error)) from error
    except OSError as error:
        raise CommandError(f"cannot write to {output}: {error}.") from error


def load_rows(args: argparse.Namespace, split: str, size: int, dataset: str | None = None) -> Any:
    """A split of the dataset asked for, or of another one."""
    from ..evaluation.splits import load_split

    return load_split(dataset or args.dataset, split, num_synthetic=args.num_synthetic, seed=args.seed, size=size,
                      **parsed_options(args.data))  # fmt: skip


def parsed_options(entries: list[str]) -> dict[str, Any]:
    options = {}
    for entry in entries:
        name, _, value = entry.partition("=")
        try:
            options[name] = json.loads(value)
        except ValueError as error:
            raise CommandError(f"--data {entry} is no OPTION=JSON ({error}); text needs quotes of its own.") from error
    return options


def record_of(args: argparse.Namespace, command: str, dataset: Any, flags: list[str]) -> dict[str, Any]:
    """What somebody needs to repeat this, and warnings that a reader must see first."""
    from ..data import build_manifest
    from ..evaluation.splits import training_warning
    from ..training.record import portable_command, run_record

    words = ["reclmis", command, args.model, "--dataset", args.dataset, "--split", args.split, "--batch-size",
             str(args.batch_size), "--seed", str(args.seed)]  # fmt: skip
    drawn = "synthetic" in (args.dataset, *getattr(args, "shift", ()))
    words += ["--num-synthetic", str(args.num_synthetic)] if drawn else []
    words += ["--data", *args.data] if args.data else []
    content = build_manifest({args.split: dataset})[args.split]
    warning = training_warning(args.model, content)
    name = shlex.split(portable_command(shlex.quote(args.model)))[0]
    return run_record(
        args.seed, command=portable_command(shlex.join([*words, *flags])), model=name, dataset=Path(args.dataset).name,
        split=args.split, sha256=content["sha256"],
        warnings=[] if warning is None else [warning.replace(args.model, name)],
    )  # fmt: skip


def write_results(folder: Path, texts: dict[str, str]) -> list[Path]:
    from ..files import replacing

    for name, text in texts.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def as_json(record: dict[str, Any]) -> str:
    return json.dumps(record, indent=1) + "\n"


def announce(record: dict[str, Any], command: str) -> int:
    for sentence in record["warnings"]:
        print(f"reclmis {command}: {sentence}", file=sys.stderr)
    return 0
