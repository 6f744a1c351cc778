"""`reclmis data`: datasets looked at, unpacked, carried elsewhere, and given notes."""

import argparse
import csv
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import MissingPackageError, one_line
from . import CommandError

_ACTIONS = {
    "audit": "find everything that is wrong with a dataset (exit code 0: nothing, 1: errors, 2: could not look)",
    "unpack": "unpack a downloaded archive without trusting it",
    "export": "write a dataset as Parquet or for `load_from_disk`, its files inside",
    "notes": "write a table of notes for a folder of chest masks",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    parsers = {name: actions.add_parser(name, help=text, description=text) for name, text in _ACTIONS.items()}
    for name in ("audit", "export"):
        _add_source_arguments(parsers[name])
    _add_audit_arguments(parsers["audit"])
    parsers["unpack"].add_argument("archive", type=Path, help=".zip, .tar, .tar.gz or .tgz")
    parsers["unpack"].add_argument("folder", type=Path, help="a new folder")
    parsers["unpack"].add_argument("--max-gigabytes", type=float, default=100, help="of all files, unpacked")
    parsers["export"].add_argument("output", type=Path, help="a new folder")
    parsers["export"].add_argument("--format", choices=("parquet", "saved"), default="parquet")
    parsers["export"].add_argument("--rows-per-file", type=int, default=5000, help="of Parquet")
    parsers["notes"].add_argument("masks", type=Path, help="folder of masks")
    parsers["notes"].add_argument(
        "--output", type=Path, required=True, help="the CSV table, with Image and Description"
    )
    parsers["notes"].add_argument("--orientation", choices=("image", "patient"), default="image",
                                  help="whose left the notes shall name")  # fmt: skip


def _add_source_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("root", help="folder, table, or source:folder, as in training")
    parser.add_argument("--splits", nargs="+", help="by default all")
    parser.add_argument("--notes", type=Path, help="table or folder of notes, for original downloads")
    parser.add_argument("--missing-notes", help="a sentence, or from_masks, where the tables have none")
    parser.add_argument("--num-labels", type=int, default=1, help="classes, 1 for binary masks")
    parser.add_argument("--instances", action="store_true", help="masks number or colour each object")


def _add_audit_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--orientation", choices=("image", "patient"), default="image", help="whose left the notes mean"
    )
    parser.add_argument("--near", type=int, help="bits of 256 in which near duplicates may differ")
    parser.add_argument("--against", type=Path, help="a checkpoint or manifest: was it trained on these images?")
    parser.add_argument("--accept", nargs="+", default=[], metavar="KIND", help="kinds of issues that do not count")
    parser.add_argument("--strict", action="store_true", help="warnings count as errors")
    parser.add_argument("--listed", type=int, default=8, help="cases printed of each kind")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet, PNG")
    parser.add_argument("--manifest", type=Path, help="write the hashes, JSON")
    parser.add_argument("--report", type=Path, help="write everything found, JSON")


def run(args: argparse.Namespace) -> int:
    return {"audit": _audit, "unpack": _unpack, "export": _export, "notes": _notes}[args.action](args)


def _audit(args: argparse.Namespace) -> int:
    from ..data.audit import KINDS, audit
    from ..data.audit_report import audit_sheet, audit_text
    from ..data.manifest import read_manifest, write_manifest
    from ..data.near_duplicates import THRESHOLD
    from ..data.sources import scan_by_name
    from ..visualization import save_picture

    unknown = sorted(set(args.accept) - set(KINDS))
    if unknown:
        raise CommandError(f"--accept knows no {unknown[0]!r}; kinds are {', '.join(map(repr, KINDS))}.")
    with _sentences():
        trained_on = None if args.against is None else read_manifest(args.against)
        inventory = scan_by_name(args.root, args.splits, verify=False, **_scan_options(args))
        with _bar(sum(map(len, inventory.splits.values()))) as bar:
            found = audit(
                inventory,
                orientation=args.orientation,
                near_threshold=THRESHOLD if args.near is None else args.near,
                trained_on=trained_on,
                on_progress=bar.update,
            )
        print(audit_text(found, listed=args.listed))
        if args.manifest:
            write_manifest(found.manifest, args.manifest)
        if args.report:
            args.report.write_text(json.dumps(found.as_dict(), indent=1) + "\n")
        if args.sheet:
            save_picture(audit_sheet(inventory, found), args.sheet)
    errors, warnings = found.of("error", args.accept), found.of("warning", args.accept)
    print(f"\n{len(errors)} error(s), {len(warnings)} warning(s).")
    return 1 if errors or (args.strict and warnings) else 0


def _scan_options(args: argparse.Namespace) -> dict:
    from ..data.masks import MaskFormat
    from ..data.sources import is_original

    if is_original(args.root):
        return {"notes": args.notes, "missing_notes": args.missing_notes}
    if args.notes or args.missing_notes:
        raise CommandError("--notes and --missing-notes belong to original downloads; this source has its own notes.")
    return {"mask_format": MaskFormat(args.num_labels, instances=args.instances)}


def _unpack(args: argparse.Namespace) -> int:
    from ..data.archives import unpack

    with _sentences():
        files = unpack(args.archive, args.folder, max_bytes=int(args.max_gigabytes * 2**30))
    print(f"{len(files)} file(s) in {args.folder}.")
    return 0


def _export(args: argparse.Namespace) -> int:
    from ..data.export import embed_files, write_parquet
    from ..data.sources import scan_by_name

    if args.output.exists() and (not args.output.is_dir() or any(args.output.iterdir())):
        raise CommandError(f"{args.output} holds something already; give a new folder.")
    with _sentences():
        splits = scan_by_name(args.root, args.splits, **_scan_options(args)).load()
        if args.format == "parquet":
            write_parquet(splits, args.output, args.rows_per_file)
        else:
            embed_files(splits).save_to_disk(str(args.output))
    print(f"{', '.join(f'{len(rows)} in {split}' for split, rows in splits.items())}: {args.output}.")
    return 0


def _notes(args: argparse.Namespace) -> int:
    """Writes what can be written; masks that cannot be read make the exit code 1."""
    from ..data.masks import read_mask
    from ..data.pairing import list_images
    from ..notes import note_from_mask

    if not args.masks.is_dir():
        raise CommandError(f"{args.masks} is no folder of masks.")
    rows, failures = [], []
    with _bar(len(files := list_images(args.masks))) as bar:
        for path in files:
            try:
                rows.append((path.name, note_from_mask(read_mask(path), orientation=args.orientation)))
            except ValueError as error:
                failures.append(one_line(error))
            bar.update(1)
    if not rows:
        raise CommandError(f"{args.masks} holds no mask that can be read{': ' + failures[0] if failures else ''}.")
    try:
        with open(args.output, "x", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter=";").writerows([("Image", "Description"), *rows])
    except OSError as error:
        raise CommandError(f"cannot write {args.output}: {one_line(error)}.") from error
    for failure in failures:
        print(f"reclmis data notes: {failure}", file=sys.stderr)
    print(f"{len(rows)} of {len(files)} note(s) in {args.output}.")
    return 1 if failures else 0


@contextmanager
def _sentences() -> Iterator[None]:
    """What data and disks can be wrong with, in one sentence."""
    try:
        yield
    except (OSError, ValueError, MissingPackageError) as error:
        raise CommandError(str(error)) from error


def _bar(total: int):
    from tqdm.auto import tqdm

    return tqdm(total=total, unit="image", disable=total < 200)
