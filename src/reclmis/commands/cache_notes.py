"""`reclmis cache-notes`: a model that knows its questions beforehand needs no text encoder."""

import argparse
from pathlib import Path

from . import CommandError
from .loading import load_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="folder or Hub id")
    parser.add_argument("notes", type=Path, help="text file with a note per line, or a table with a column of notes")
    parser.add_argument("output", type=Path, help="folder for the smaller model, which only predicts")


def run(args: argparse.Namespace) -> int:
    from ..errors import one_line
    from ..text import with_note_table

    notes = read_notes(args.notes)
    model, processor = load_model(args.model, prune=True)
    try:
        small = with_note_table(model, processor, notes)
    except ValueError as error:
        raise CommandError(f"the notes cannot be encoded: {one_line(error)}") from error
    try:
        small.save_pretrained(args.output)
        processor.save_pretrained(args.output)
    except OSError as error:
        raise CommandError(f"cannot write to {args.output}: {error}.") from error
    before, after = (sum(tensor.nbytes for tensor in part.state_dict().values()) for part in (model, small))
    print(f"{len(small.text_encoder.note_ids)} notes kept; {before / 1e6:.1f} MB became {after / 1e6:.1f} MB.")
    print(f"Written to {args.output}.")
    return 0


def read_notes(path: Path) -> list[str]:
    """Notes of a table (`.csv`, `.tsv`, `.xlsx`), or the lines of any other file that are not blank.

    Raises:
        CommandError: no such file, one that cannot be read, or no note in it.
    """
    from ..data.tables import TABLE_SUFFIXES, read_note_table

    try:
        if path.suffix.lower() in TABLE_SUFFIXES:
            notes = [note for _, note in read_note_table(path)]
        else:
            notes = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise CommandError(f"the notes cannot be read: {error}") from error
    if not notes:
        raise CommandError(f"{path} holds no note.")
    return notes
