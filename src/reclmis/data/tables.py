"""Tables of notes: one row per image, read from `.xlsx` or delimited text without changing a character of the note."""

import csv
from pathlib import Path

TABLE_SUFFIXES = (".xlsx", ".csv", ".tsv")
IMAGE_COLUMNS = ("image", "image_name", "img", "file", "file_name", "filename", "name")
NOTE_COLUMNS = ("description", "text", "note", "caption", "sentence", "report")


def read_note_table(path: str | Path) -> list[tuple[str, str]]:
    """Rows `(image name, note)` of a table, in its order.

    The columns are found by name, in any order and case: `Image` (or file, name, ...) and `Description` (or text, note,
    ...). Delimited text is read as UTF-8 with a semicolon, tab or comma, whichever the header has. Notes are kept as they
    are: an `NA` stays `NA`. A blank cell becomes an empty note, which pairing reports.

    Raises:
        FileNotFoundError: no such table.
        ValueError: no rows, columns that cannot be told, a row with too many or too few cells, or a cell that is a
            number or formula where a note should be.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No table of notes at {path}.")
    rows = _excel_rows(path) if path.suffix.lower() == ".xlsx" else _delimited_rows(path)
    if not rows:
        raise ValueError(f"{path} is empty.")
    header = [str(cell or "").strip().lower() for cell in rows[0]]
    image_column = _column(header, IMAGE_COLUMNS, path, "image")
    note_column = _column(header, NOTE_COLUMNS, path, "note")
    return [
        (_cell(row, image_column, path, number).strip(), _cell(row, note_column, path, number))
        for number, row in enumerate(rows[1:], start=2)
        if any(cell not in (None, "") for cell in row)
    ]


def _excel_rows(path: Path) -> list[tuple]:
    from openpyxl import load_workbook

    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except Exception as error:
        raise ValueError(f"{path} cannot be read as an Excel workbook: {error}. Save it again, or as CSV.") from error
    try:
        return list(book.worksheets[0].iter_rows(values_only=True))
    finally:
        book.close()


def _delimited_rows(path: Path) -> list[list[str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error}. Save it again as UTF-8.") from error
    header = text.split("\n", 1)[0]
    # The header decides: notes are full of commas, column names are not.
    delimiter = next((mark for mark in (";", "\t", ",") if mark in header), None)
    if delimiter is None:
        raise ValueError(f"The header of {path} ({header.strip()!r}) has no semicolon, tab or comma.")
    rows = [row for row in csv.reader(text.splitlines(), delimiter=delimiter) if row]
    wrong = [str(number) for number, row in enumerate(rows, start=1) if len(row) != len(rows[0])]
    if wrong:
        raise ValueError(
            f"{path}: row(s) {', '.join(wrong[:10])} do not have {len(rows[0])} cells. Put notes that hold "
            f"{delimiter!r} in double quotes."
        )
    return rows


def _column(header: list[str], names: tuple[str, ...], path: Path, kind: str) -> int:
    found = [header.index(name) for name in names if name in header]
    if not found:
        raise ValueError(f"{path} has columns {header}, none of which is the {kind} ({', '.join(names)}).")
    return found[0]


def _cell(row, column: int, path: Path, number: int) -> str:
    value = row[column] if column < len(row) else None
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{path}, row {number}: {value!r} is a {type(value).__name__}, not text. Format it as text.")
    return value
