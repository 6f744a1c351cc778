"""`reclmis predict`: images and notes -> mask and overlay PNGs."""

import argparse
import sys
from pathlib import Path

from . import CommandError
from .loading import load_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="*", type=Path, help="image files or folders")
    parser.add_argument("--model", required=True, help="folder or Hub id")
    parser.add_argument("--note", help="what to look for, for every image")
    parser.add_argument("--table", type=Path, help="CSV or Excel table with a column of images and one of notes")
    parser.add_argument("--output", type=Path, default=Path("predictions"), help="folder for the PNGs")
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--overlay", action=argparse.BooleanOptionalAction, default=True, help="also write overlays")
    parser.add_argument("--prune", action=argparse.BooleanOptionalAction, default=True,
                        help="leave out what only training needs")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    requests = collect_requests(args.images, args.note, args.table)
    targets = _targets([path for path, _ in requests], args.output)
    try:
        args.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"cannot write to {args.output}: {error}.") from error
    model, processor = load_model(args.model, prune=args.prune)

    from tqdm.auto import tqdm

    from ..prediction import predict
    from ..visualization import mask_image, overlay, save_picture

    failures: list[str] = []
    predictions = predict(
        model.to(args.device),
        processor,
        requests,
        batch_size=args.batch_size,
        threshold=args.threshold,
        on_error=lambda source, error: failures.append(str(error)),
    )
    with tqdm(total=len(requests), desc="predict", disable=len(requests) < 2) as bar:
        for prediction in predictions:
            stem = targets[prediction.source]
            save_picture(mask_image(prediction.mask), args.output / f"{stem}_mask.png")
            if args.overlay:
                save_picture(overlay(prediction.image, prediction.mask), args.output / f"{stem}_overlay.png")
            bar.update()
    done = len(requests) - len(failures)
    print(f"{done} of {len(requests)} image(s) segmented into {args.output}.")
    for failure in failures:
        print(f"reclmis predict: {failure}", file=sys.stderr)
    return 0 if not failures else (1 if done else 2)


def collect_requests(images: list[Path], note: str | None, table: Path | None) -> list[tuple[Path, str]]:
    """Pairs of path and note, from files and folders with one note, or from a table.

    Raises:
        CommandError: nothing to do, an empty note, or a table that does not fit the images.
    """
    from ..data.pairing import IMAGE_SUFFIXES, canonical
    from ..data.tables import read_note_table

    files: list[Path] = []
    for path in images:
        inside = [p for p in sorted(path.iterdir()) if p.suffix.lower() in IMAGE_SUFFIXES] if path.is_dir() else [path]
        if not inside:
            raise CommandError(f"the folder {path} holds no image ({', '.join(IMAGE_SUFFIXES)}).")
        files += inside
    if (note is None) == (table is None):
        raise CommandError("give either --note for all images, or --table with one note per image.")
    if note is not None:
        if not note.strip():
            raise CommandError("the note is empty; say what to look for, as in --note 'upper left lung'.")
        if not files:
            raise CommandError("give at least one image.")
        return [(path, note) for path in files]
    try:
        rows = read_note_table(table)
    except (OSError, ValueError) as error:
        raise CommandError(str(error)) from error
    if not files:
        return [(table.parent / name, text) for name, text in rows]
    notes = {canonical(name): text for name, text in rows}
    without = [str(path) for path in files if canonical(path.name) not in notes]
    if without:
        raise CommandError(f"{table} has no note for {', '.join(without[:5])}{' ...' if len(without) > 5 else ''}.")
    return [(path, notes[canonical(path.name)]) for path in files]


def _targets(paths: list[Path], output: Path) -> dict[str, str]:
    """Stem of the output per image; images that share a stem keep their folder's name in front."""
    stems = [path.stem for path in paths]
    targets = {
        str(path): path.stem if stems.count(path.stem) == 1 else f"{path.parent.name}_{path.name.replace('.', '_')}"
        for path in paths
    }
    if len(set(targets.values())) < len(targets):
        raise CommandError(f"several images would be written to one file in {output}; run them one folder at a time.")
    return targets
