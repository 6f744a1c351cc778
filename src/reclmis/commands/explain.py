"""`reclmis explain`: one figure of why a mask is where it is, and checks of what the figure claims."""

import argparse
import json
import sys
import warnings
from pathlib import Path
from typing import Any

from . import CommandError
from .loading import load_model
from .predict import probability

ENDINGS = (".png", ".svg", ".pdf")
# What deletion and insertion are run on: maps over the image that claim to say what matters.
CHECKED = ("grad_cam", "patch_interest", "visual", "interacted", "word_attention")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", type=Path, help="image or DICOM file")
    parser.add_argument("--note", required=True, help="what to look for")
    parser.add_argument("--model", required=True, help="folder or Hub id, saved unpruned")
    parser.add_argument("--edit", action="append", default=[], metavar="NOTE",
                        help="show the mask under this note as well; may be given several times")  # fmt: skip
    parser.add_argument("--truth", type=Path, help="mask of what --note means, of the image's size")
    parser.add_argument("--checks", action="store_true",
                        help="also randomise weights, delete, insert: curves in the figure, numbers as .json")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the checks")
    parser.add_argument("--output", type=Path, required=True, help=f"the figure: {', '.join(ENDINGS)}")
    parser.add_argument("--threshold", type=probability, default=0.5, help="least foreground probability, 0 to 1")
    parser.add_argument("--device", default="cpu")


def run(args: argparse.Namespace) -> int:
    from ..errors import MissingPackageError, one_line
    from ..explanation.layout import stacked
    from ..files import replacing

    if args.output.suffix.lower() not in ENDINGS:
        raise CommandError(f"--output must end in {', '.join(ENDINGS)}, which says what to write; got {args.output}.")
    model, processor = load_model(args.model, prune=False, device=args.device)
    _announce(processor, [args.note, *args.edit])
    try:
        with warnings.catch_warnings():
            _told_already()
            blocks, checks = _blocks(args, model, processor)
            figure = stacked(blocks)
    except (ValueError, TypeError, MissingPackageError) as error:
        raise CommandError(one_line(error)) from error
    try:
        with replacing(args.output) as temporary:
            figure.savefig(temporary)
        if checks is not None:
            with replacing(args.output.with_suffix(".json")) as temporary:
                temporary.write_text(json.dumps(checks, indent=1) + "\n")
    except OSError as error:
        raise CommandError(f"cannot write to {args.output}: {error}.") from error
    if checks is not None:
        _tell(checks)
    print(f"Written to {args.output}{' and .json' if checks is not None else ''}.")
    return 0


def _blocks(args: argparse.Namespace, model: Any, processor: Any) -> tuple[list, dict[str, Any] | None]:
    """Parts of the figure, and the checks where they were asked for."""
    from ..data.masks import read_mask
    from ..explanation import explain, grad_cam, word_removal
    from ..explanation.curves import deletion_insertion_block, randomisation_block
    from ..explanation.editing import note_block
    from ..explanation.figures import overview_block
    from ..images import read_image

    image = read_image(args.image)
    truth = None if args.truth is None else read_mask(args.truth, model.config.num_labels)
    explanation = explain(model, processor, image, args.note, threshold=args.threshold)
    marked = explanation.mask > 0
    cam = grad_cam(model, processor, image, args.note, region=marked) if marked.any() else None
    # Where a table of notes stands for the encoder, a note without a word cannot be asked.
    given = (model, processor, image, args.note)
    removal = None if hasattr(model.text_encoder, "knows") else word_removal(*given, threshold=args.threshold)
    blocks = [overview_block(explanation, cam, truth, removal)]
    if args.edit:
        blocks.append(
            note_block(model, processor, image, [args.note, *args.edit], truth, threshold=args.threshold)
        )  # fmt: skip
    for remark in explanation.remarks:
        print(f"reclmis explain: {remark}", file=sys.stderr)
    if not args.checks:
        return blocks, None
    randomisation, curves = _checked(args, model, processor, explanation, cam)
    blocks += [deletion_insertion_block(curves), randomisation_block(randomisation)]
    names = ("image", "note", "model", "seed", "threshold")
    return blocks, {
        **{name: value if isinstance(value := getattr(args, name), int | float) else str(value) for name in names},
        "words": explanation.weighted_words,
        "left_out": list(explanation.left_out),
        "word_removal": removal,
        "words_against_removal": _words_against_removal(explanation, removal),
        "mask_share": float(marked.mean()),
        "patch_interest_in_mask": _inside(explanation),
        "randomisation": randomisation.to_dict(),
        "deletion_insertion": {name: result.to_dict() for name, result in curves.items()},
    }


def _checked(args: argparse.Namespace, model, processor, explanation, cam) -> tuple[Any, dict[str, Any]]:
    from ..explanation import deletion_insertion, randomisation_check

    given = (model, processor, explanation.image, args.note)
    options = {"seed": args.seed, "threshold": args.threshold}
    randomisation = randomisation_check(*given, **options)
    maps = {name: cam if name == "grad_cam" else getattr(explanation, name) for name in CHECKED}
    if maps["word_attention"] is not None:
        maps["word_attention"] = maps["word_attention"].mean(axis=0)
    cells = tuple(min(12, side) for side in (explanation.image.height, explanation.image.width))
    laid_over = {name: explanation.at_image(grid) for name, grid in maps.items() if grid is not None}
    return randomisation, deletion_insertion(*given, laid_over, cells=cells, **options)


def _words_against_removal(explanation: Any, removal: Any) -> float | None:
    """Rank correlation of what words weigh and what they change."""
    from ..explanation.checks import rank_correlation

    if removal is None or explanation.word_interest is None:
        return None
    return rank_correlation(explanation.word_interest, [change for _, change in removal])


def _inside(explanation: Any) -> float | None:
    """Share of W_poi in the mask."""
    interest = explanation.patch_interest_at_image
    return None if interest is None else float(interest[explanation.mask > 0].sum())


def _announce(processor: Any, notes: list[str]) -> None:
    """Says once what the tokenizer does to the notes.

    Raises:
        CommandError: the model's processor is strict and refuses them.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            processor.tokenize(notes)
        except ValueError as error:
            raise CommandError(str(error)) from error
    for warning in caught:
        print(f"reclmis explain: {warning.message}", file=sys.stderr)


def _told_already() -> None:
    from ..processing_reclmis import NoteNotNormalisedWarning, NoteTooLongWarning

    for kind in (NoteNotNormalisedWarning, NoteTooLongWarning):
        warnings.simplefilter("ignore", kind)


def _tell(checks: dict[str, Any]) -> None:
    kept = next(iter(checks["deletion_insertion"].values()))["kept"]
    if kept > 0.5:
        print(
            f"Wholly blurred, the image keeps {kept:.0%} of the score: the mask comes from elsewhere, and deletion and "
            "insertion say little of any map."
        )
    if checks["words_against_removal"] is not None:
        print(f"Rank correlation of words' weights and of what they change: {checks['words_against_removal']:.2f}")
    similarity = checks["randomisation"]["similarity"]
    print(f"{'map':<16}{'deletion':>9}{'random':>8}{'insertion':>11}{'random':>8}{'randomised':>12}")
    for name, result in checks["deletion_insertion"].items():
        areas = result["areas"]
        print(
            f"{name:<16}{areas['deletion']:>9.2f}{areas['random_deletion']:>8.2f}{areas['insertion']:>11.2f}"
            f"{areas['random_insertion']:>8.2f}{similarity[name][-1]:>12.2f}"
        )
