"""`reclmis certify`: a model and a split -> whether the mask follows the note, as JSON and Markdown."""

import argparse
from pathlib import Path

from .loading import load_model
from .measuring import add_split_arguments, announce, as_json, load_rows, record_of, told, write_results
from .predict import positive_integer

JSON, MARKDOWN = "certificate.json", "certificate.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="folder or Hub id")
    add_split_arguments(parser)
    parser.add_argument("--output", type=Path, default=Path("certificate"), help=f"folder for {JSON} and {MARKDOWN}")
    parser.add_argument("--resamples", type=positive_integer, default=2000, help="draws of the bootstrap")
    parser.add_argument(
        "--orientation", choices=("image", "patient"), default="image", help="whose left the notes mean"
    )
    floors = parser.add_argument_group("floors")
    floors.add_argument("--train-split", default="train",
                        help="what the text-only predictor learns from; 'none' leaves that floor out")  # fmt: skip
    floors.add_argument("--image-only", metavar="MODEL", help="a checkpoint trained with one note for all")
    floors.add_argument("--image-only-note", help="that note, unless it is the one of `--note_mode constant`")


def run(args: argparse.Namespace) -> int:
    with told(args.output):
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    from ..evaluation.certificate import text_dependence_certificate
    from ..evaluation.certificate_report import certificate_markdown
    from ..evaluation.text_dependence import CONSTANT_NOTE

    args.output.mkdir(parents=True, exist_ok=True)  # before anything is computed
    model, processor = load_model(args.model, prune=True, device=args.device)
    image_only = None if args.image_only is None else load_model(args.image_only, prune=True, device=args.device)
    dataset = load_rows(args, args.split, model.config.image_size)
    train = None if args.train_split == "none" else load_rows(args, args.train_split, model.config.image_size)
    measured = text_dependence_certificate(
        model, processor, dataset, train, image_only=image_only, seed=args.seed, batch_size=args.batch_size,
        resamples=args.resamples, image_only_note=args.image_only_note or CONSTANT_NOTE, orientation=args.orientation,
    )  # fmt: skip
    certificate = {**record_of(args, "certify", dataset, _flags(args)), **measured}
    paths = write_results(args.output, {JSON: as_json(certificate), MARKDOWN: certificate_markdown(certificate)})
    for line in certificate["verdicts"]:
        print(f"{line['claim']}: {line['answer']}. {line['numbers']}.")
    print(f"Written to {', '.join(map(str, paths))}.")
    return announce(certificate, "certify")


def _flags(args: argparse.Namespace) -> list[str]:
    words = ["--resamples", str(args.resamples), "--orientation", args.orientation, "--train-split", args.train_split]
    words += ["--image-only", args.image_only] if args.image_only else []
    return words + (["--image-only-note", args.image_only_note] if args.image_only_note else [])
