import pytest
from openpyxl import Workbook

from reclmis.data.tables import read_note_table, scan_note_table

NOTE = "Bilateral pulmonary infection, two infected areas, all left lung and lower right lung."
ODD_NOTES = [
    "NA",
    "None",
    "nan",
    "N/A",
    " spaces kept ",
    'Grüße; "quoted", and more',
    "two\nlines",
    "two\r\nlines",
    "1.50",
    "=SUM",
]


def write(path, text):
    path.write_bytes(text.encode("utf-8"))
    return path


@pytest.mark.parametrize("delimiter", [";", "\t", ","])
@pytest.mark.parametrize("columns", [("Image", "text"), ("Description", "Image"), ("IMAGE", "note")])
def test_delimiter_and_column_order_are_found(tmp_path, delimiter, columns):
    cells = {"image": "mask_a.png", "text": f'"{NOTE}"', "description": f'"{NOTE}"', "note": f'"{NOTE}"'}
    lines = [delimiter.join(columns), delimiter.join(cells[column.lower()] for column in columns)]
    table = write(tmp_path / "notes.csv", "\n".join(lines) + "\n")
    assert read_note_table(table) == [("mask_a.png", NOTE)]


def test_unquoted_commas_of_notes_do_not_decide_the_delimiter(tmp_path):
    table = write(tmp_path / "notes.csv", f"Image;text\na.png;{NOTE}\nb.png;plain\n")
    assert read_note_table(table) == [("a.png", NOTE), ("b.png", "plain")]


def test_quoted_header_and_byte_order_mark(tmp_path):
    table = write(tmp_path / "notes.csv", f'\ufeff"Image";"text"\r\n"a.png";"{NOTE}"\r\n')
    assert read_note_table(table) == [("a.png", NOTE)]


@pytest.mark.parametrize("note", ODD_NOTES)
def test_delimited_notes_stay_byte_for_byte(tmp_path, note):
    table = write(tmp_path / "notes.csv", 'Image;text\na.png;"{}"\n'.format(note.replace('"', '""')))
    assert read_note_table(table) == [("a.png", note)]


@pytest.mark.parametrize("note", [note for note in ODD_NOTES if not note.startswith("=") and "\r" not in note])
def test_excel_notes_stay_byte_for_byte(tmp_path, lvit, note):
    table = lvit.table(tmp_path / "notes.xlsx", [(note, "a.png")], ("Description", "Image"))
    assert read_note_table(table) == [("a.png", note)]


def test_excel_names_that_became_numbers_are_their_digits(tmp_path, lvit):
    assert read_note_table(lvit.table(tmp_path / "notes.xlsx", [(12, "a note")])) == [("12", "a note")]


def test_bad_rows_are_all_named_and_the_others_are_read(tmp_path, lvit):
    table = lvit.table(tmp_path / "notes.xlsx", [("a", 3.5), ("b", "fine"), ("c", "#REF!"), ("d", None), (1.5, "x")])
    rows, problems = scan_note_table(table)
    assert rows == [("b", "fine"), ("d", "")]
    assert ["row 2" in problems[0], "row 4" in problems[1], "row 6" in problems[2], len(problems)] == [True] * 3 + [3]
    assert "3.5" in problems[0] and "text" in problems[0]
    with pytest.raises(ValueError, match="row 2") as caught:
        read_note_table(table)
    assert "row 6" in str(caught.value)


def test_a_row_with_too_many_cells_names_the_row(tmp_path):
    table = write(tmp_path / "notes.csv", f"Image,text\na.png,fine\nb.png,{NOTE}\n")
    rows, problems = scan_note_table(table)
    assert rows == [("a.png", "fine")]
    assert len(problems) == 1 and "row 3" in problems[0] and "quotes" in problems[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("Picture;Words\na;b\n", "Picture"),
        ("Image;text;Image\na;b;c\n", "2 columns 'image'"),
        ('Image;text\na;"left open\n', "quote"),
    ],
)
def test_tables_that_cannot_be_read_say_why(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_note_table(write(tmp_path / "notes.csv", text))


def test_broken_files(tmp_path):
    with pytest.raises(ValueError, match="UTF-8"):
        (tmp_path / "latin.csv").write_bytes("Image;text\na;\xe9".encode("latin-1"))
        read_note_table(tmp_path / "latin.csv")
    with pytest.raises(ValueError, match="Excel"):
        read_note_table(write(tmp_path / "no.xlsx", "not a workbook"))
    with pytest.raises(FileNotFoundError, match=r"gone\.csv"):
        read_note_table(tmp_path / "gone.csv")


def test_blank_rows_are_passed_over(tmp_path):
    book = Workbook()
    for row in (("Image", "text"), ("a", "x"), (None, None), ("b", "y")):
        book.active.append(row)
    book.save(tmp_path / "notes.xlsx")
    assert read_note_table(tmp_path / "notes.xlsx") == [("a", "x"), ("b", "y")]
