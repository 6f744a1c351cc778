"""Any images, masks and notes: listed in a table, or in folders side by side."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ..medical.detection import is_volume
from ..registry import register_data_source
from .inventory import Inventory, OnError, chosen_splits, columns_of, features_of, row_of
from .masks import Colour, MaskFormat
from .pairing import DataError, Pair, list_images, pair_split, verify_files
from .patients import patient_of
from .tables import IMAGE_COLUMNS, NOTE_COLUMNS, TABLE_SUFFIXES, Record, iterate_records, notes_of, scan_note_table
from .volumes import VolumeFormat, slices_of

if TYPE_CHECKING:
    from datasets import DatasetDict, IterableDatasetDict

COLUMNS = {
    "image": IMAGE_COLUMNS,
    "mask": ("mask", "mask_file_name", "mask_name", "segmentation", "annotation", "ground_truth", "label"),
    "note": NOTE_COLUMNS,
}
OPTIONAL_COLUMNS = {
    "split": ("split", "fold", "set", "subset"),
    "id": ("id", "sample_id", "uid"),
    "patient": ("patient", "patient_id", "subject", "subject_id", "scan", "study"),
}
SPLITS = {
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
# As many workers and processes can share a stream.
_SHARDS = 64
_FOLDERS = {
    "image": ("images", "image", "img", "imgs", "frames"),
    "mask": ("masks", "mask", "labels", "labelcol", "annotations", "ground-truths"),
    "note": ("notes", "texts", "captions", "reports"),
}


@register_data_source("image-note-mask")
def load_image_note_mask(
    path: str | Path,
    splits: Iterable[str] | None = None,
    *,
    num_labels: int = 1,
    colours: tuple[Colour, ...] | None = None,
    instances: bool = False,
    volumes: VolumeFormat | None = None,
    allow_outside: bool = False,
    on_error: OnError = "raise",
    verify: bool = True,
    streaming: bool = False,
    cache_dir: str | Path | None = None,
) -> "DatasetDict | IterableDatasetDict":
    """A table that lists images, masks and notes, or folders of them.

        data.csv (.tsv, .xlsx, .jsonl)     a row for each image and note: `image`, `mask`, `note`, and if you have them
                                           `split`, `id`, `patient`; files relative to the table
        root/metadata.jsonl (.csv, ...)    the same, found in a folder; also one per split in root/train/, ...
        root/{images,masks,notes}/         files that share a name, notes as .txt; or a table of notes in root; also once
                                           per split in root/train/, ...

    An image may have several rows, with notes and masks of its own; JSON lines may also list several notes of one mask.
    Further questions about an image are samples of their own, whose id ends in `#2`, `#3`, ... Without a column `split`
    everything is `train`.

    A table may also list volumes: a NIfTI file or the folder of a DICOM series as image, and a NIfTI mask on its grid.
    Every slice is a sample then, `name@007`, under the volume's note.

    Args:
        path: the table or the folder.
        splits: out of those that are there; by default all.
        num_labels, colours, instances: how masks are read, see [`MaskFormat`].
        volumes: how volumes are windowed and cut, see [`VolumeFormat`].
        allow_outside: let a table name files outside its own folder.
        on_error: `"raise"` everything wrong in one error, or `"skip"` the samples concerned with one warning.
        verify: decode every file now, so that no bad one is met hours later. Not when streaming.
        streaming: read the table row by row and open files only when they are asked for: for sets of any size. What is
            wrong with a row is then an error when it is reached. Rows of one image must follow each other. Not for volumes.
        cache_dir: where converted masks and slices are kept, in place of HF datasets' own.

    Returns:
        Splits with `image`, `mask` ([`read_mask`] turns it into class indices), `note`, `id`, and `patient` if listed.

    Raises:
        DataError: everything wrong with the data.
        FileNotFoundError: no table and no such folders.
    """
    mask_format = MaskFormat(num_labels, colours, instances)
    if streaming and volumes is not None:
        raise ValueError("Volumes are not streamed; leave `streaming` out, or write their slices with `write_parquet`.")
    if streaming and (tables := _find_tables(Path(path))):
        return _stream(tables, splits, mask_format, allow_outside)
    inventory = scan_image_note_mask(
        path,
        splits,
        mask_format=mask_format,
        volumes=volumes,
        allow_outside=allow_outside,
        verify=verify and not streaming,
    )
    return inventory.load(on_error, streaming=streaming, cache_dir=cache_dir)


def scan_image_note_mask(
    path: str | Path,
    splits: Iterable[str] | None = None,
    *,
    mask_format: MaskFormat | None = None,
    volumes: VolumeFormat | None = None,
    allow_outside: bool = False,
    verify: bool = True,
) -> Inventory:
    """What [`load_image_note_mask`] loads, with a line for everything wrong instead of an error."""
    path, mask_format = Path(path), mask_format or MaskFormat()
    inventory = Inventory({}, [], mask_format)
    if tables := _find_tables(path):
        for split, table in tables.items():
            _scan_table(inventory, table, split, allow_outside)
        _cut_volumes(inventory, volumes or VolumeFormat())
        if verify:
            _leave_out_unreadable(inventory)
    else:
        for split, folder in _split_folders(path).items():
            pairs, wrong = _scan_folders(folder, split, mask_format, verify)
            inventory.splits[split] = pairs
            inventory.problems += wrong
    if splits is not None:  # where every row is wrong there is no split, and that is told with the rows
        inventory.splits = chosen_splits(inventory.splits, splits, path)
    return inventory.keep_apart()


def is_image_note_mask(root: Path) -> bool:
    """Whether a folder holds a table of metadata, or folders of images and masks."""
    if _find_tables(root):
        return True
    try:
        return bool(_split_folders(root))
    except FileNotFoundError:
        return False


def split_of(name: str) -> str | None:
    """The split that a name means (`val.csv`, `Train_text.xlsx`, "testing"), or `None`."""
    words = PurePosixPath(name.lower()).stem.replace("-", "_").replace(" ", "_").split("_")
    return next((SPLITS[word] for word in words if word in SPLITS), None)


def _find_tables(path: Path) -> dict[str, Path]:
    """Tables with all three columns: the file itself, or `metadata.*` in a folder or its folders of splits."""
    if path.is_file():
        return {split_of(path.name) or "train": path}
    if own := _metadata(path):
        return {"train": own}
    folders = sorted(folder for folder in path.iterdir() if folder.is_dir()) if path.is_dir() else []
    return {split: table for folder in folders if (split := split_of(folder.name)) and (table := _metadata(folder))}


def _metadata(folder: Path) -> Path | None:
    found = [folder / f"metadata{suffix}" for suffix in TABLE_SUFFIXES if (folder / f"metadata{suffix}").is_file()]
    if len(found) > 1:
        raise DataError([f"{folder} has {' and '.join(path.name for path in found)}; keep one."])
    return found[0] if found else None


def _scan_table(inventory: Inventory, table: Path, default_split: str, allow_outside: bool) -> None:
    seen: set[tuple[str, ...]] = set()
    try:
        for sample in _samples(table, default_split, allow_outside):
            if isinstance(sample, ValueError):
                inventory.problems.append(str(sample))
                continue
            split, pair = sample
            key = (str(pair.image), str(pair.mask), pair.note)
            if key in seen:
                inventory.problems.append(
                    f"{table}: {pair.image.name} is listed twice with the same mask and note; keep one."
                )
            else:
                seen.add(key)
                inventory.splits.setdefault(split, []).append(pair)
    except (OSError, ValueError) as error:
        inventory.problems.append(str(error))
        inventory.splits.setdefault(default_split, [])
    for split, pairs in inventory.splits.items():
        inventory.splits[split] = sorted(pairs, key=lambda pair: pair.id)


def _samples(
    table: Path, default_split: str, allow_outside: bool, forget: bool = False
) -> Iterator[tuple[str, Pair] | ValueError]:
    """The samples of a table as they come; what is wrong with a row in place of it.

    Args:
        forget: count the questions about the present image alone, for tables that are too long to remember all.
    """
    asked: Counter[str] = Counter()
    for record in iterate_records(table, COLUMNS, OPTIONAL_COLUMNS):
        if isinstance(record, ValueError):
            yield record
            continue
        try:
            image, mask, split = _placed(record, table, default_split, allow_outside)
            name = record["id"] or _without_suffix(record["image"])
            if forget and name not in asked:
                asked.clear()
            for note in notes_of(record):
                asked[name] += 1
                sample_id = name if asked[name] == 1 else f"{name}#{asked[name]}"
                yield split, Pair(sample_id, image, mask, note, record["patient"])
        except ValueError as error:
            yield ValueError(f"{table}: {error}")


def _without_suffix(name: str) -> str:
    path = str(PurePosixPath(name.replace("\\", "/")))
    return path[: -len(".nii.gz")] if path.lower().endswith(".nii.gz") else str(PurePosixPath(path).with_suffix(""))


def _placed(record: Record, table: Path, default_split: str, allow_outside: bool) -> tuple[Path, Path, str]:
    """Image, mask and split of a row.

    Raises:
        ValueError: one of them is missing or impossible, or a note is empty.
    """
    image = _file(record["image"], "image", table.parent, allow_outside)
    mask = _file(record["mask"], "mask", table.parent, allow_outside)
    split = split_of(record["split"]) if record["split"] else default_split
    if split is None:
        raise ValueError(f"no split {record['split']!r} (image {record['image']}); write train, validation or test.")
    if not all(note.strip() for note in notes_of(record)):
        raise ValueError(f"the note of {record['image']} is empty; write what the mask shows.")
    return image, mask, split


def _file(name: str, kind: str, folder: Path, allow_outside: bool) -> Path:
    if not name:
        raise ValueError(f"a row has no {kind}; name the file, or remove the row.")
    path = folder / name.replace("\\", "/")
    # A table from elsewhere could otherwise make a push to the Hub publish any file of this computer.
    if not allow_outside and not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{name} lies outside {folder}; move it there, or set `allow_outside` if you trust the table.")
    return path


def _cut_volumes(inventory: Inventory, volumes: VolumeFormat) -> None:
    """Puts the slices of a volume in its place. They are read here, so that what is wrong with them is known."""
    for split, pairs in inventory.splits.items():
        cut: list[Pair] = []
        for pair in pairs:
            if not is_volume(pair.image):
                cut.append(pair)
                continue
            try:
                numbers = slices_of(pair.image, pair.mask, volumes, inventory.mask_format)
            except (ValueError, ImportError) as error:
                inventory.problems.append(f"{split}: {error}")
                continue
            patient = pair.patient or patient_of(pair.id) or pair.id
            cut += [replace(pair, id=f"{pair.id}@{number:03d}", patient=patient, slice=number, volume_format=volumes)
                    for number in numbers]  # fmt: skip
        inventory.splits[split] = cut


def _leave_out_unreadable(inventory: Inventory) -> None:
    for split, pairs in inventory.splits.items():
        pictures = [pair for pair in pairs if pair.slice is None]
        findings = verify_files([(pair.image, pair.mask) for pair in pictures], inventory.mask_format)
        # Several questions about one image would report it several times.
        inventory.problems += list(dict.fromkeys(f"{split}: {line}" for lines in findings for line in lines))
        broken = {pair.id for pair, lines in zip(pictures, findings, strict=True) if lines}
        inventory.splits[split] = [pair for pair in pairs if pair.id not in broken]


def _split_folders(root: Path) -> dict[str, Path]:
    if _named(root, "image") and _named(root, "mask"):
        return {"train": root}
    folders = sorted(folder for folder in root.iterdir() if folder.is_dir()) if root.is_dir() else []
    found = {split: folder for folder in folders
             if (split := split_of(folder.name)) and _named(folder, "image") and _named(folder, "mask")}  # fmt: skip
    if not found:
        raise FileNotFoundError(
            f"{root} has no metadata table ({', '.join(f'metadata{suffix}' for suffix in TABLE_SUFFIXES)}) and no folders "
            f"of images and masks ({_FOLDERS['image'][0]}/ and {_FOLDERS['mask'][0]}/), also not within train/ or test/."
        )
    return found


def _named(folder: Path, kind: str) -> Path | None:
    """The subfolder of images, masks or notes, in any case."""
    if not folder.is_dir():
        return None
    inside = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_dir()}
    return next((inside[name] for name in _FOLDERS[kind] if name in inside), None)


def _scan_folders(folder: Path, split: str, mask_format: MaskFormat, verify: bool) -> tuple[list[Pair], list[str]]:
    images, masks = _named(folder, "image"), _named(folder, "mask")
    assert images is not None and masks is not None  # _split_folders found them
    try:
        notes, problems = _notes_beside(folder)
    except (OSError, ValueError) as error:
        return [], [f"{split}: {error}"]
    pairs, wrong = pair_split(
        split, list_images(images), list_images(masks), notes, mask_format=mask_format, verify=verify
    )
    return pairs, [f"{split}: {problem}" for problem in problems] + wrong


def _notes_beside(folder: Path) -> tuple[list[tuple[str, str]], list[str]]:
    if texts := _named(folder, "note"):
        return _text_files(texts)
    tables = sorted(
        path for path in folder.iterdir() if path.suffix.lower() in TABLE_SUFFIXES and path.name[0] not in "~."
    )
    if len(tables) != 1:
        found = ", ".join(path.name for path in tables) or "none"
        raise ValueError(f"{folder} needs a folder notes/ or one table of notes; there is {found}.")
    return scan_note_table(tables[0])


def _text_files(folder: Path) -> tuple[list[tuple[str, str]], list[str]]:
    rows, problems = [], []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_file():
            continue
        if path.suffix.lower() != ".txt":
            problems.append(f"{path} is no .txt file; rename it, or take it away.")
            continue
        try:
            # The last line end belongs to the file, not to the note.
            rows.append((path.stem, path.read_bytes().decode("utf-8-sig").removesuffix("\n").removesuffix("\r")))
        except UnicodeDecodeError as error:
            problems.append(f"{path} is not UTF-8: {error}. Save it again as UTF-8.")
    return rows, problems


def _stream(
    tables: dict[str, Path], splits: Iterable[str] | None, mask_format: MaskFormat, allow_outside: bool
) -> "IterableDatasetDict":
    from datasets import IterableDatasetDict

    found = _survey(tables, allow_outside)
    wanted = chosen_splits(found, splits, next(iter(tables.values())))
    return IterableDatasetDict(
        {split: _streamed(split, names, tables, mask_format, allow_outside) for split, names in wanted.items()}
    )


def _survey(tables: dict[str, Path], allow_outside: bool) -> dict[str, tuple[str, ...]]:
    """Columns of each split; one reading of the tables that holds no row and opens no image.

    Raises:
        DataError: every row that is wrong.
    """
    found: dict[str, tuple[str, ...]] = {}
    problems = []
    for default_split, table in tables.items():
        for sample in _samples(table, default_split, allow_outside, forget=True):
            if isinstance(sample, ValueError):
                problems.append(str(sample))
            else:
                found[sample[0]] = max(found.get(sample[0], ()), columns_of([sample[1]]), key=len)
    if problems or not found:
        raise DataError(problems or [f"{', '.join(map(str, tables.values()))}: no row."])
    return found


def _streamed(
    split: str, names: tuple[str, ...], tables: dict[str, Path], mask_format: MaskFormat, allow_outside: bool
):
    from datasets import IterableDataset

    arguments = {
        "tables": tuple(tables.items()), "split": split, "names": names, "mask_format": mask_format,
        "allow_outside": allow_outside,
    }  # fmt: skip
    # Rows are dealt out to this many readers: HF datasets hands shards to workers and processes.
    return IterableDataset.from_generator(
        _deal, features=features_of(names), gen_kwargs={**arguments, "shards": list(range(_SHARDS))}
    )


def _deal(tables, split, names, mask_format, allow_outside, shards) -> Iterator[dict[str, Any]]:
    hands, number = frozenset(shards), 0
    for default_split, table in tables:
        for sample in _samples(table, default_split, allow_outside, forget=True):
            if isinstance(sample, ValueError):
                raise sample
            if sample[0] != split:
                continue
            if number % _SHARDS in hands:
                yield row_of(sample[1], mask_format, names)
            number += 1
