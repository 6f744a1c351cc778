"""`reclmis export`: a model for ONNX Runtime or OpenVINO."""

import argparse
from pathlib import Path

from . import CommandError
from .loading import load_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="folder or Hub id")
    parser.add_argument(
        "output", type=Path, help="folder for the graphs; `reclmis predict --backend` takes it as --model"
    )
    parser.add_argument("--optimize", action=argparse.BooleanOptionalAction, default=True,
                        help="fewer operations, the same mask up to rounding")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    from ..errors import MissingPackageError, one_line
    from ..exporting import GRAPHS, check_target, export_onnx

    try:
        check_target(args.output)  # before anything is loaded
        model, processor = load_model(args.model, prune=True)
        export_onnx(model, processor, args.output, optimize=args.optimize)
    except (ValueError, MissingPackageError, RuntimeError) as error:
        raise CommandError(one_line(error)) from error
    except OSError as error:
        raise CommandError(f"cannot write to {args.output}: {error}.") from error
    sizes = {name: (args.output / f"{name}.onnx").stat().st_size for name in GRAPHS}
    for name, size in sizes.items():
        print(f"{name + '.onnx':<20}{size / 1e6:>9.1f} MB")
    print(f"Written to {args.output}; checked against the model in ONNX Runtime.")
    return 0
