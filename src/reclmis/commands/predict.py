"""`reclmis predict`: images and notes -> mask and overlay PNGs."""

import argparse
import sys
import warnings
from collections import Counter
from pathlib import Path

from . import CommandError
from .loading import load_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="*", type=Path, help="image files or folders")
    parser.add_argument("--model", required=True, help="folder or Hub id")
    parser.add_argument("--note", help="what to look for, for every image")
    parser.add_argument("--table", "--csv", type=Path, help="CSV or Excel table: a column of images, one of notes")
    parser.add_argument("--output", type=Path, default=Path("predictions"), help="folder for the PNGs")
    parser.add_argument("--threshold", type=probability, default=0.5, help="least foreground probability, 0 to 1")
    parser.add_argument("--batch-size", type=positive_integer, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--overlay", action=argparse.BooleanOptionalAction, default=True, help="also write overlays")
    parser.add_argument("--prune", action=argparse.BooleanOptionalAction, default=True,
                        help="leave out what only training needs")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    requests = collect_requests(args.images, args.note, args.table)
    stems = output_stems([path for path, _ in requests])
    try:
        args.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"cannot write to {args.output}: {error}.") from error
    model, processor = load_model(args.model, prune=args.prune, device=args.device)
    _announce_long_notes(processor, [note for _, note in requests])
    failures = _write_masks(args, model, processor, requests, stems)
    done = len(requests) - len(failures)
    print(f"{done} of {len(requests)} image(s) segmented into {args.output}.")
    for failure in failures:
        print(f"reclmis predict: {failure}", file=sys.stderr)
    return 0 if not failures else (1 if done else 2)


def _write_masks(args, model, processor, requests, stems) -> list[str]:
    """Writes what can be answered, and returns a sentence for whatever could not."""
    from tqdm.auto import tqdm

    from ..prediction import predict
    from ..processing_reclmis import NoteTooLongWarning
    from ..visualization import mask_image, overlay, save_picture

    failures: list[str] = []
    bar = tqdm(total=len(requests), desc="predict", unit="image", disable=len(requests) < 2)

    def note_failure(source: str, error: ValueError) -> None:
        failures.append(str(error))
        bar.update()

    with bar, warnings.catch_warnings():
        warnings.simplefilter("ignore", NoteTooLongWarning)  # announced already, all at once
        options = {"batch_size": args.batch_size, "threshold": args.threshold, "on_error": note_failure}
        for prediction in predict(model, processor, requests, **options):
            target = args.output / stems[prediction.index]
            try:
                save_picture(mask_image(prediction.mask, model.config.num_labels), f"{target}_mask.png")
                if args.overlay:
                    save_picture(overlay(prediction.image, prediction.mask), f"{target}_overlay.png")
            except OSError as error:
                raise CommandError(f"cannot write to {args.output}: {error}.") from error
            bar.update()
    return failures


def _announce_long_notes(processor, notes: list[str]) -> None:
    """One sentence for all notes that will be cut, instead of one per batch.

    Raises:
        CommandError: the model's processor is strict and refuses them.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            processor.tokenize(list(dict.fromkeys(notes)))
        except ValueError as error:
            raise CommandError(str(error)) from error
    for warning in caught:
        print(f"reclmis predict: {warning.message}", file=sys.stderr)


def collect_requests(images: list[Path], note: str | None, table: Path | None) -> list[tuple[Path, str]]:
    """Pairs of path and note, from files and folders with one note, or from a table.

    Images without a table row, and an empty `note`, end the command; what is wrong with a single image does not.

    Raises:
        CommandError: nothing to do, an empty note, or a table that does not fit the images.
    """
    if note is not None and table is not None:
        raise CommandError("give either --note for all images, or --table with one note per image, not both.")
    files = [file for path in images for file in _images_in(path)]
    if table is not None:
        return _requests_of_table(files, table)
    if note is None:
        raise CommandError("say what to look for: --note for all images, or --table with one note per image.")
    if not note.strip():
        raise CommandError("the note is empty; say what to look for, as in --note 'upper left lung'.")
    if not files:
        raise CommandError("give at least one image.")
    return [(path, note) for path in files]


def _images_in(path: Path) -> list[Path]:
    from ..data.pairing import IMAGE_SUFFIXES

    if not path.is_dir():
        return [path]
    inside = [file for file in sorted(path.iterdir()) if file.suffix.lower() in IMAGE_SUFFIXES]
    if not inside:
        raise CommandError(f"the folder {path} holds no image ({', '.join(IMAGE_SUFFIXES)}).")
    return inside


def _requests_of_table(files: list[Path], table: Path) -> list[tuple[Path, str]]:
    """Without files, those that the table names, beside it; an image may have several notes."""
    from ..data.pairing import canonical
    from ..data.tables import read_note_table

    try:
        rows = read_note_table(table)
    except (OSError, ValueError) as error:
        raise CommandError(str(error)) from error
    if not rows:
        raise CommandError(f"{table} has a header, but no rows.")
    if not files:
        return [(table.parent / name, text) for name, text in rows]
    notes: dict[str, list[str]] = {}
    for name, text in rows:
        notes.setdefault(canonical(name), []).append(text)
    without = [str(path) for path in files if canonical(path.name) not in notes]
    if without:
        raise CommandError(f"{table} has no note for {', '.join(without[:5])}{' ...' if len(without) > 5 else ''}.")
    return [(path, text) for path in files for text in notes[canonical(path.name)]]


def output_stems(paths: list[Path]) -> list[str]:
    """A file name without ending for each request. Images that share a stem carry their folder's and full name, and an
    image that is asked several questions carries their number from the second on.

    Raises:
        CommandError: two images would still be written to one file.
    """
    sharing = Counter(path.stem for path in dict.fromkeys(paths))
    stems: list[str] = []
    asked: Counter[Path] = Counter()
    for path in paths:
        asked[path] += 1
        alone = sharing[path.stem] == 1
        stem = path.stem if alone else f"{path.parent.name}_{path.name.replace('.', '_')}"
        stems.append(stem if asked[path] == 1 else f"{stem}_{asked[path]}")
    uses = Counter(stems)
    twice = [str(path) for path, stem in zip(paths, stems, strict=True) if uses[stem] > 1]
    if twice:
        raise CommandError(f"{' and '.join(twice[:2])} would be written to one file; run them one folder at a time.")
    return stems


def probability(text: str) -> float:
    if not 0 <= (value := float(text)) <= 1:
        raise argparse.ArgumentTypeError(f"must lie between 0 and 1, got {text}")
    return value


def positive_integer(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value
