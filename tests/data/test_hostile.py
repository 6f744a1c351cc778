"""Damaged and hostile files: an error that names the file, or an answer; never another exception, never a hang."""

import gzip
import io
import json
import pickle
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from openpyxl import Workbook
from PIL import Image

from reclmis.data import DataError, load_image_note_mask, read_mask
from reclmis.data.annotations import AnnotationError, read_annotation
from reclmis.data.tables import read_note_table
from reclmis.images import UnreadableImageError, read_image
from reclmis.medical import read_volume

ROUNDS = 60
SECONDS = 5
PIXELS = np.random.default_rng(0).integers(0, 256, (24, 30, 3), dtype=np.uint8)


def encoded(format: str, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    grey16 = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)
    picture = grey16 if mode == "I;16" else Image.fromarray(PIXELS).convert(mode)
    picture.save(file, format)
    return file.getvalue()


def workbook() -> bytes:
    book, file = Workbook(), io.BytesIO()
    for row in (("Image", "Description"), *((f"{n}.png", f"upper left lung {n}") for n in range(30))):
        book.active.append(row)
    book.save(file)
    return file.getvalue()


def volume() -> bytes:
    return nibabel.Nifti1Image(PIXELS, np.eye(4)).to_bytes()


def outline() -> bytes:
    corners = "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in ((2, 2), (9, 3), (5, 8)))
    return f"<Annotations><Regions><Region>{corners}</Region></Regions></Annotations>".encode()


ROWS = "".join(json.dumps({"image": f"{n}.png", "note": f"upper left lung {n}"}) + "\n" for n in range(9)).encode()
IMAGE, MASK, VOLUME = read_image, read_mask, lambda path: read_volume(path, window="full")
Read = Callable[[Path], object]
GOOD: dict[str, tuple[bytes, Read]] = {
    "a.png": (encoded("PNG"), IMAGE),
    "grey16.png": (encoded("PNG", "I;16"), IMAGE),
    "palette.png": (encoded("PNG", "P"), IMAGE),
    "mask.png": (encoded("PNG", "1"), MASK),
    "a.jpg": (encoded("JPEG"), IMAGE),
    "a.tif": (encoded("TIFF"), IMAGE),
    "grey16.tif": (encoded("TIFF", "I;16"), IMAGE),
    "a.bmp": (encoded("BMP"), IMAGE),
    "a.gif": (encoded("GIF", "P"), IMAGE),
    "a.webp": (encoded("WEBP"), IMAGE),
    "a.xlsx": (workbook(), read_note_table),
    "a.csv": (b'Image;Description\na.png;"upper left lung, one area"\nb.png;plain\n' * 1, read_note_table),
    "a.jsonl": (ROWS, read_note_table),
    "a.xml": (outline(), lambda path: read_annotation(path, (24, 30))),
    "a.nii": (volume(), VOLUME),
    "a.nii.gz": (gzip.compress(volume()), VOLUME),
}


def damaged(good: bytes, draw: np.random.Generator) -> bytes:
    """Cut, bits flipped, bytes doubled, taken out, or overwritten with extreme numbers."""
    content = bytearray(good[: draw.integers(len(good))] if draw.random() < 0.3 else good)
    for _ in range(draw.integers(1, 6)):
        if not content:
            break
        place = int(draw.integers(len(content)))
        kind = draw.integers(4)
        if kind == 0:
            content[place] ^= 1 << int(draw.integers(8))
        elif kind == 1:
            content[place : place + 4] = draw.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"]).ljust(
                4, b"\0"
            )
        elif kind == 2:
            del content[place : place + int(draw.integers(1, 20))]
        else:
            content[place:place] = content[place : place + 20]
    return bytes(content)


@pytest.mark.filterwarnings("ignore")  # readers warn of what they tolerate
@pytest.mark.parametrize("name", GOOD)
def test_damage_is_told_in_one_kind_of_error(tmp_path, name):
    good, read = GOOD[name]
    path = tmp_path / name
    path.write_bytes(good)
    read(path)  # it is good to begin with
    draw = np.random.default_rng(sum(name.encode()))
    failures = 0
    for _ in range(ROUNDS):
        path.write_bytes(damaged(good, draw))
        started = time.monotonic()
        try:
            read(path)
        except (UnreadableImageError, AnnotationError, ValueError) as error:
            failures += 1
            assert type(error) in (UnreadableImageError, AnnotationError, ValueError), repr(error)
            # A mask that was decoded, and whose values mean nothing, is named by whoever holds its path.
            assert name in str(error) or read is read_mask, repr(error)
        assert time.monotonic() - started < SECONDS
    assert failures


WRONG = {
    "pickle": pickle.dumps({"a": 1}),
    "html": b"<html><body>404 Not Found</body></html>",
    "zip": b"PK\x05\x06" + bytes(18),
    "zeros": bytes(5000),
    "nothing": b"",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="99999" height="99999"/>',
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/passwd) run\n%%EOF\n",
}


@pytest.mark.parametrize("content", WRONG)
@pytest.mark.parametrize(
    "name", ["a.png", "a.jpg", "a.tif", "a.xlsx", "a.csv", "a.jsonl", "a.xml", "a.nii", "a.nii.gz"]
)
def test_what_is_something_else_is_named(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(WRONG[content])
    _, read = GOOD[name]
    with pytest.raises((UnreadableImageError, AnnotationError, ValueError), match=name):
        read(path)


def test_a_picture_under_another_pictures_name_is_what_it_is(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded("BMP"))
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "a.png")), PIXELS)


def test_postscript_is_never_handed_to_an_interpreter(tmp_path, monkeypatch):
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *arguments, **options: pytest.fail("it was run"))
    (tmp_path / "a.png").write_bytes(WRONG["eps"])
    with pytest.raises(UnreadableImageError, match="no image of a kind that is read"):
        read_image(tmp_path / "a.png")


def test_a_workbook_that_would_fill_memory(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        with archive.open("xl/worksheets/sheet1.xml", "w", force_zip64=True) as sheet:
            for _ in range(300):
                sheet.write(bytes(2**20))
    started = time.monotonic()
    with pytest.raises(ValueError, match=r"a\.xlsx cannot be read.*unpack to"):
        read_note_table(tmp_path / "a.xlsx")
    assert time.monotonic() - started < SECONDS


def test_entities_of_a_workbook_are_not_expanded(tmp_path):
    bomb = b'<!DOCTYPE a [<!ENTITY b "xxxxxxxxxx"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]><a>&c;</a>'
    good = io.BytesIO(workbook())
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(tmp_path / "a.xlsx", "w") as target:
        for entry in source.infolist():
            target.writestr(entry, bomb if "sheet1" in entry.filename else source.read(entry))
    with pytest.raises(ValueError, match=r"a\.xlsx"):
        read_note_table(tmp_path / "a.xlsx")


def test_json_nested_beyond_any_stack(tmp_path):
    (tmp_path / "a.jsonl").write_text("[" * 200_000 + "\n")
    with pytest.raises(ValueError, match=r"a\.jsonl, row 1"):
        read_note_table(tmp_path / "a.jsonl")


def test_a_whole_set_of_such_files_is_one_error(tmp_path):
    rows = []
    for number, content in enumerate(WRONG.values()):
        (tmp_path / f"{number}.png").write_bytes(content)
        (tmp_path / f"{number}_mask.png").write_bytes(content[::-1])
        rows.append({"image": f"{number}.png", "mask": f"{number}_mask.png", "note": "x"})
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError) as caught:
        load_image_note_mask(tmp_path / "all.jsonl")
    for row in rows:
        for name in (row["image"], row["mask"]):
            assert sum(f"/{name} " in line for line in caught.value.problems) == 1
