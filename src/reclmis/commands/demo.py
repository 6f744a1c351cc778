"""`reclmis demo`: a page in the browser to try a model on."""

import argparse

from . import CommandError
from .loading import add_backend_argument, load_any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", help="folder or Hub id; interest of patches and words is shown unless it was saved pruned"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 lets others in")
    parser.add_argument("--port", type=port, help="a free one from 7860 on unless given")
    parser.add_argument("--share", action="store_true", help="ask Gradio for a public address")
    parser.add_argument("--device", default="cpu")
    add_backend_argument(parser)


def run(args: argparse.Namespace) -> int:
    from ..errors import MissingPackageError, one_line
    from ..serving import SegmentationService
    from ..serving.web import launch

    model, processor = load_any(args.model, args.backend, args.device, prune=False)
    try:
        launch(SegmentationService(model, processor), host=args.host, port=args.port, share=args.share)
    except (MissingPackageError, OSError) as error:
        raise CommandError(one_line(error)) from error
    return 0


def port(text: str) -> int:
    if not 1 <= (value := int(text)) <= 65535:
        raise argparse.ArgumentTypeError(f"must be from 1 to 65535, got {text}")
    return value
