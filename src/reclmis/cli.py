"""The `reclmis` command."""

import argparse
import sys
from importlib import import_module

from .commands import CommandError

COMMANDS = {
    "predict": "segment images as their notes say",
    "explain": "show in one figure why a mask is where it is",
    "evaluate": "measure a model on a split: intervals, strata, pictures, comparison",
    "certify": "show whether a model's mask follows the note",
    "robustness": "measure a model on worse images, on other datasets, and its probabilities",
    "convert": "turn a released checkpoint into one of ours",
    "export": "write a model for ONNX Runtime or OpenVINO",
    "quantize": "turn an exported model into 8 bits",
    "demo": "try a model in the browser",
    "push": "publish a model on the Hub, with a card",
    "cache-notes": "replace a model's text encoder by the encoded notes that it will be asked",
    "data": "audit, unpack and export datasets, and write notes for masks",
    "info": "say what a model is made of",
}


def main(argv: list[str] | None = None) -> int:
    """Runs a subcommand. Returns 0, 1 when part of the work failed, 2 when nothing could be done."""
    parser = argparse.ArgumentParser(prog="reclmis", description="Language-guided medical image segmentation.")
    subparsers = parser.add_subparsers(dest="command", required=True)
    for name, summary in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=summary, description=summary)
        # Modules import what they work with only when they run, so that --help needs little.
        module = import_module(f".commands.{name.replace('-', '_')}", __package__)
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    try:
        return args.run(args)
    except CommandError as error:
        print(f"reclmis {args.command}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
