"""Tables of notes: `.xlsx`, delimited text or JSON lines, read without changing a character of the note."""

import csv
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

TABLE_SUFFIXES = (".xlsx", ".csv", ".tsv", ".jsonl")
IMAGE_COLUMNS = ("image", "image_name", "img", "file", "file_name", "filename", "name")
NOTE_COLUMNS = ("description", "text", "note", "notes", "caption", "sentence", "report")
_DELIMITERS = (";", "\t", ",")
_EXCEL_ERRORS = ("#DIV/0!", "#N/A", "#NAME?", "#NULL!", "#NUM!", "#REF!", "#VALUE!")
# A million notes of a line each.
_LARGEST_WORKBOOK = 2**28
_NOTE_TABLE = {"image": IMAGE_COLUMNS, "note": NOTE_COLUMNS}

Row = tuple[str, str]
# What a row holds under each kind of column. A note may be several.
Record = dict[str, Any]


def read_note_table(path: str | Path) -> list[Row]:
    """Rows `(image name, note)` of a table, in its order.

    The columns are found by name, in any order and case: `Image` (or file, name, ...) and `Description` (or text, note,
    ...). Delimited text is UTF-8, with the delimiter out of semicolon, tab and comma by which the header has both
    columns. Notes are kept as they are: an `NA` stays `NA`. A blank cell becomes an empty note.

    Raises:
        FileNotFoundError: no such table.
        ValueError: no header, columns that cannot be told, or everything that [`scan_note_table`] finds in its rows.
    """
    rows, problems = scan_note_table(path)
    if problems:
        raise ValueError("\n".join(problems))
    return rows


def scan_note_table(path: str | Path) -> tuple[list[Row], list[str]]:
    """As [`read_note_table`], with a line for every row that cannot be read instead of an error: too few or too many
    cells, a number or a failed formula where a note should be.

    Raises:
        FileNotFoundError, ValueError: no row can be read.
    """
    rows, problems = [], []
    for row in iterate_records(path, _NOTE_TABLE):
        if isinstance(row, ValueError):
            problems.append(str(row))
        else:
            rows += [(row["image"], note) for note in notes_of(row)]
    return rows, problems


def notes_of(record: Record) -> list[str]:
    """The notes of a record, of which JSON lines may list several."""
    return record["note"] if isinstance(record["note"], list) else [record["note"]]


def iterate_records(
    path: str | Path, columns: Mapping[str, Sequence[str]], optional: Mapping[str, Sequence[str]] | None = None
) -> Iterator[Record | ValueError]:
    """The rows of a table one by one, holding none but the present one (of delimited text and JSON lines).

    Args:
        path: the table.
        columns: names by which each kind of column is found, in any case; the first that is there counts.
        optional: the same for kinds that may be missing, whose value is then "".

    Yields:
        The texts of a row by kind, blank ones as ""; or the error that names the row and what is wrong with it.

    Raises:
        FileNotFoundError: no such table.
        ValueError: no header, columns that cannot be told, or a file that is no table.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No table of notes at {path}.")
    readers = {".xlsx": _excel_rows, ".jsonl": _json_rows}
    rows = readers.get(path.suffix.lower(), _delimited_rows)(path, columns, optional or {})
    nothing = True
    for number, values in rows:
        nothing = False
        if number == 0:  # the header: it is read, but no row
            continue
        try:
            yield _record(values)
        except ValueError as error:
            yield ValueError(f"{path}, row {number}: {error}")
    if nothing:
        raise ValueError(f"{path} is empty. Give it a header and one row per image.")


_Rows = Iterator[tuple[int, Record | ValueError]]


def _excel_rows(path: Path, columns, optional) -> _Rows:
    from openpyxl import load_workbook

    try:
        _check_workbook(path)
        book = load_workbook(path, read_only=True, data_only=True)
        try:
            rows = list(book.worksheets[0].iter_rows(values_only=True))
        finally:
            book.close()
    except Exception as error:
        # A damaged archive raises whatever zip and XML readers stumble over.
        raise ValueError(f"{path} cannot be read as an Excel workbook: {error}. Save it again, or as CSV.") from error
    numbered = ((n, row) for n, row in enumerate(rows, start=1) if any(cell not in (None, "") for cell in row))
    yield from _under_header(path, numbered, columns, optional)


def _check_workbook(path: Path) -> None:
    """A workbook is a zip archive, whose sheets may unpack to more than any memory.

    Raises:
        ValueError, zipfile.BadZipFile: it would, or it is none.
    """
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > _LARGEST_WORKBOOK:
        raise ValueError(f"it would unpack to {size} bytes, more than {_LARGEST_WORKBOOK}")


def _delimited_rows(path: Path, columns, optional) -> _Rows:
    try:
        # newline="": line ends within quotes belong to the note.
        with open(path, encoding="utf-8-sig", newline="") as file:
            delimiter = _delimiter(path, file, columns)
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            numbered = ((number, cells) for number, cells in enumerate(reader, start=1) if any(cells))
            yield from _under_header(path, numbered, columns, optional)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error}. Save it again as UTF-8.") from error
    except csv.Error as error:
        raise ValueError(f"{path} cannot be read as delimited text: {error}. Is a quote left open?") from error


def _delimiter(path: Path, file, columns) -> str:
    """The mark by which the header has all columns. Notes are full of commas, column names are not."""
    lines = (line for line in file if line.strip())
    header = next(lines, "")
    for mark in _DELIMITERS:
        cells = _normalised(next(csv.reader([header], delimiter=mark), []))
        if all(not set(cells).isdisjoint(names) for names in columns.values()):
            return mark
    if header:
        wanted = " and ".join(f"that of {kind}s ({', '.join(names)})" for kind, names in columns.items())
        raise ValueError(
            f"The header of {path} is {header.rstrip()!r}. Name the column {wanted.removeprefix('that ')}, with a "
            "semicolon, tab or comma between."
        )
    return ","


def _json_rows(path: Path, columns, optional) -> _Rows:
    header = False
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    if not header:
                        header = True
                        yield 0, {}
                    yield number, _json_record(line, {**columns, **optional}, optional)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error}. Save it again as UTF-8.") from error


def _json_record(line: str, columns, optional) -> Record | ValueError:
    try:
        # Nesting deeper than Python's stack would be a RecursionError.
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        return ValueError(f"no JSON ({error}). Write one object per line.")
    if not isinstance(values, dict):
        return ValueError(f"a {type(values).__name__} where an object should be. Write one object per line.")
    keys = {str(key).strip().lower(): key for key in values}
    record = {}
    for kind, names in columns.items():
        name = next((name for name in names if name in keys), None)
        if name is None and kind not in optional:
            return ValueError(f"keys {sorted(keys)}, none of which is the {kind} ({', '.join(names)}).")
        record[kind] = values[keys[name]] if name is not None else None
    return record


def _under_header(path: Path, rows: Iterator[tuple[int, Sequence[Any]]], columns, optional) -> _Rows:
    header: list[str] = []
    for number, cells in rows:
        if not header:
            header = _normalised(cells)
            places = _places(path, header, columns, optional)
            yield 0, {}
        elif len(cells) > len(header):
            yield (
                number,
                ValueError(
                    f"{len(cells)} cells under a header of {len(header)}. Put notes that hold the delimiter in quotes."
                ),
            )
        elif len(cells) <= max(places[kind] for kind in columns):
            yield (
                number,
                ValueError(f"{len(cells)} cell(s) under a header of {len(header)}. Fill the row, or take it out."),
            )
        else:
            yield number, {kind: cells[place] if 0 <= place < len(cells) else None for kind, place in places.items()}


def _normalised(header: Sequence[Any]) -> list[str]:
    return [str(cell or "").strip().lower() for cell in header]


def _places(path: Path, header: list[str], columns, optional) -> dict[str, int]:
    """Where each kind of column is; -1 for an optional one that is not there."""
    places = {}
    for kind, names in {**columns, **optional}.items():
        found = [name for name in names if name in header]
        if not found and kind in columns:
            raise ValueError(f"{path} has columns {header}, none of which is the {kind} ({', '.join(names)}).")
        if found and header.count(found[0]) > 1:
            raise ValueError(f"{path} has {header.count(found[0])} columns {found[0]!r}; keep one.")
        places[kind] = header.index(found[0]) if found else -1
    return places


def _record(values: Record | ValueError) -> Record:
    if isinstance(values, ValueError):
        raise values
    return {
        kind: _several(value) if kind == "note" and isinstance(value, list) else _text(kind, value)
        for kind, value in values.items()
    }


def _several(values: list[Any]) -> list[str]:
    if not values:
        raise ValueError("an empty list. Write at least one note.")
    return [_text("note", value) for value in values]


def _text(kind: str, value: Any) -> str:
    if kind != "note" and isinstance(value, int) and not isinstance(value, bool):
        # Excel turns a name like "12" into a number; its digits are still the name.
        value = str(value)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{value!r} is a {type(value).__name__}, not text. Format the cell as text.")
    if value in _EXCEL_ERRORS:
        raise ValueError(f"the formula failed with {value}. Write its text.")
    return (value or "") if kind == "note" else (value or "").strip()
