"""Tables of notes: one row per image, read from `.xlsx` or delimited text without changing a character of the note."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

TABLE_SUFFIXES = (".xlsx", ".csv", ".tsv")
IMAGE_COLUMNS = ("image", "image_name", "img", "file", "file_name", "filename", "name")
NOTE_COLUMNS = ("description", "text", "note", "caption", "sentence", "report")
_DELIMITERS = (";", "\t", ",")
_EXCEL_ERRORS = ("#DIV/0!", "#N/A", "#NAME?", "#NULL!", "#NUM!", "#REF!", "#VALUE!")

Row = tuple[str, str]


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
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No table of notes at {path}.")
    table = _excel_rows(path) if path.suffix.lower() == ".xlsx" else _delimited_rows(path)
    if not table:
        raise ValueError(f"{path} is empty. Give it a header and one row per image.")
    header = _normalised(table[0][1])
    columns = _column(header, IMAGE_COLUMNS, path, "image"), _column(header, NOTE_COLUMNS, path, "note")
    rows, problems = [], []
    for number, cells in table[1:]:
        try:
            rows.append(_row(cells, len(header), *columns))
        except ValueError as error:
            problems.append(f"{path}, row {number}: {error}")
    return rows, problems


def _excel_rows(path: Path) -> list[tuple[int, Sequence[Any]]]:
    from openpyxl import load_workbook

    try:
        book = load_workbook(path, read_only=True, data_only=True)
        try:
            rows = list(book.worksheets[0].iter_rows(values_only=True))
        finally:
            book.close()
    except Exception as error:
        # A damaged archive raises whatever zip and XML readers stumble over.
        raise ValueError(f"{path} cannot be read as an Excel workbook: {error}. Save it again, or as CSV.") from error
    return [(n, row) for n, row in enumerate(rows, start=1) if any(cell not in (None, "") for cell in row)]


def _delimited_rows(path: Path) -> list[tuple[int, Sequence[str]]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error}. Save it again as UTF-8.") from error
    # The header decides: notes are full of commas, column names are not.
    readings = {mark: next(_parsed(text, mark, strict=False), (1, []))[1] for mark in _DELIMITERS}
    fitting = [mark for mark, header in readings.items() if _has_both(_normalised(header))]
    if not fitting and text.strip():
        header = text.lstrip().splitlines()[0]
        raise ValueError(
            f"The header of {path} is {header!r}. Name the column of images ({', '.join(IMAGE_COLUMNS)}) and that of "
            f"notes ({', '.join(NOTE_COLUMNS)}), with a semicolon, tab or comma between."
        )
    try:
        return list(_parsed(text, fitting[0])) if fitting else []
    except csv.Error as error:
        raise ValueError(f"{path} cannot be read as delimited text: {error}. Is a quote left open?") from error


def _parsed(text: str, delimiter: str, strict: bool = True) -> Iterator[tuple[int, list[str]]]:
    # newline="": line ends within quotes belong to the note.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=strict)
    return ((number, cells) for number, cells in enumerate(reader, start=1) if any(cells))


def _normalised(header: Sequence[Any]) -> list[str]:
    return [str(cell or "").strip().lower() for cell in header]


def _has_both(header: list[str]) -> bool:
    return not set(header).isdisjoint(IMAGE_COLUMNS) and not set(header).isdisjoint(NOTE_COLUMNS)


def _column(header: list[str], names: tuple[str, ...], path: Path, kind: str) -> int:
    found = [name for name in names if name in header]
    if not found:
        raise ValueError(f"{path} has columns {header}, none of which is the {kind} ({', '.join(names)}).")
    if header.count(found[0]) > 1:
        raise ValueError(f"{path} has {header.count(found[0])} columns {found[0]!r}; keep one.")
    return header.index(found[0])


def _row(cells: Sequence[Any], width: int, image_column: int, note_column: int) -> Row:
    if len(cells) > width:
        raise ValueError(f"{len(cells)} cells under a header of {width}. Put notes that hold the delimiter in quotes.")
    if len(cells) <= max(image_column, note_column):
        raise ValueError(f"{len(cells)} cell(s) under a header of {width}. Fill the row, or take it out.")
    image, note = cells[image_column], cells[note_column]
    if isinstance(image, int) and not isinstance(image, bool):
        # Excel turns a name like "12" into a number; its digits are still the name.
        image = str(image)
    for value in (image, note):
        if value is not None and not isinstance(value, str):
            raise ValueError(f"{value!r} is a {type(value).__name__}, not text. Format the cell as text.")
        if value in _EXCEL_ERRORS:
            raise ValueError(f"the formula failed with {value}. Write its text.")
    return (image or "").strip(), note or ""
