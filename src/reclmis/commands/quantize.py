"""`reclmis quantize`: an exported model in 8 bits."""

import argparse
from pathlib import Path

from . import CommandError
from .loading import load_exported
from .predict import collect_requests, positive_integer, sort_out


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="folder that `reclmis export` wrote")
    parser.add_argument("output", type=Path, help="folder for the smaller graphs")
    parser.add_argument("--weights-only", action="store_true", help="smaller files, no faster than float32")
    data = parser.add_argument_group("images and notes that show what values to expect, unless --weights-only")
    data.add_argument("--images", nargs="+", type=Path, default=[], help="images, or folders of them")
    data.add_argument("--note", action="append", help="what to look for, for every image; may be given several times")
    data.add_argument("--table", "--csv", type=Path, help="CSV or Excel table: a column of images, one of notes")
    data.add_argument("--count", type=positive_integer, default=32, help="use at most so many")


def run(args: argparse.Namespace) -> int:
    from ..errors import MissingPackageError, one_line
    from ..quantization import quantize_static, quantize_weights

    try:
        if args.weights_only:
            quantize_weights(args.model, args.output)
        else:
            images, volumes = sort_out(args.images)
            if volumes:
                raise CommandError(f"{volumes[0]} is a volume; calibrate with images.")
            requests = collect_requests(images, args.note, args.table)
            _, processor = load_exported(args.model, "onnxruntime")
            quantize_static(args.model, args.output, processor, requests, args.count)
    except (ValueError, FileNotFoundError, MissingPackageError) as error:
        raise CommandError(one_line(error)) from error
    except OSError as error:
        raise CommandError(f"cannot write to {args.output}: {error}.") from error
    before, after = (
        sum(path.stat().st_size for path in Path(folder).glob("*.onnx")) for folder in (args.model, args.output)
    )
    print(f"{before / 1e6:.1f} MB became {after / 1e6:.1f} MB. Written to {args.output}.")
    return 0
