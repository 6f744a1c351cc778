"""`reclmis convert`: a released checkpoint -> ours."""

import argparse
from pathlib import Path

from . import CommandError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, help="best_model-RecLMIS.pth.tar, or a state dict")
    parser.add_argument("output", type=Path, help="folder for the converted model")
    parser.add_argument("--max-length", type=int, default=18, help="tokens per note: 18, or 10 for MoNuSeg")


def run(args: argparse.Namespace) -> int:
    from ..conversion import convert_checkpoint

    try:
        report = convert_checkpoint(args.checkpoint, args.output, max_text_length=args.max_length)
    except (OSError, ValueError, RuntimeError) as error:
        raise CommandError(str(error)) from error
    print(report)
    print(f"Written to {args.output}.")
    return 0
