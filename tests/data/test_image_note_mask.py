import json

import numpy as np
import pytest
from PIL import Image

from reclmis.data import DataError, SkippedDataWarning, load_dataset_by_name, load_image_note_mask, read_mask
from reclmis.data.image_note_mask import split_of

COLOURS = ((0, 0, 0), (255, 0, 0), (0, 255, 0))


@pytest.fixture
def folder(tmp_path, arrays):
    """Three images and masks, and a way to list them."""
    for number, name in enumerate("abc"):
        image, mask = arrays(number)
        for part, pixels in (("images", image), ("masks", mask * 255)):
            (tmp_path / part).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / part / f"{name}.png")
    return tmp_path


def jsonl(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def row(name, note="a note", **more):
    return {"image": f"images/{name}.png", "mask": f"masks/{name}.png", "note": note, **more}


def contents(splits):
    return {split: list(zip(rows["id"], rows["note"], strict=True)) for split, rows in splits.items()}


TABLES = {
    "metadata.csv": "file_name,mask,text\nimages/a.png,masks/a.png,first\nimages/b.png,masks/b.png,second\n",
    "metadata.tsv": "IMAGE\tMask\tNote\nimages/b.png\tmasks/b.png\tsecond\nimages/a.png\tmasks/a.png\tfirst\n",
    "metadata.jsonl": "".join(json.dumps(r) + "\n" for r in (row("a", "first"), row("b", "second"))),
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("streaming", [False, True])
def test_a_table_of_any_kind(folder, arrays, name, streaming):
    (folder / name).write_text(TABLES[name])
    for path in (folder, folder / name):
        rows = sorted(load_dataset_by_name(path, streaming=streaming)["train"], key=lambda row: row["id"])
        assert [(r["id"], r["note"]) for r in rows] == [("images/a", "first"), ("images/b", "second")]
        for number, r in enumerate(rows):
            image, mask = arrays(number)
            np.testing.assert_array_equal(np.asarray(r["image"]), image)
            np.testing.assert_array_equal(read_mask(r["mask"]), mask)


@pytest.mark.parametrize("streaming", [False, True])
def test_splits_ids_and_patients_out_of_columns(folder, streaming):
    table = jsonl(
        folder / "all.jsonl",
        row("a", split="training", id="first", patient="p1"),
        row("b", split="val", patient="p2"),
        row("c", split="Test", patient="p1"),
    )
    splits = load_image_note_mask(table, streaming=streaming)
    assert {split: [(r["id"], r["patient"]) for r in rows] for split, rows in splits.items()} == {
        "train": [("first", "p1")],
        "validation": [("images/b", "p2")],
        "test": [("images/c", "p1")],
    }
    assert list(load_image_note_mask(table, ["test"], streaming=streaming)) == ["test"]
    with pytest.raises(ValueError, match="no split 'tset'; it has train, validation, test"):
        load_image_note_mask(table, "tset", streaming=streaming)


@pytest.mark.parametrize("streaming", [False, True])
def test_several_notes_of_an_image(folder, streaming):
    table = jsonl(
        folder / "all.jsonl",
        row("a", ["one area", "a single area"]),
        {**row("a", "other side"), "mask": "masks/b.png"},
        row("b"),
    )
    splits = load_image_note_mask(table, streaming=streaming)
    found = {r["id"]: (r["note"], int(read_mask(r["mask"]).sum())) for r in splits["train"]}
    assert {name: note for name, (note, _) in found.items()} == {
        "images/a": "one area",
        "images/a#2": "a single area",
        "images/a#3": "other side",
        "images/b": "a note",
    }
    assert found["images/a#3"][1] == found["images/b"][1] != found["images/a"][1]


def test_folders_side_by_side_with_text_files(folder):
    (folder / "notes").mkdir()
    for name in "abc":
        (folder / "notes" / f"{name}.txt").write_bytes(f"  note, of {name}\r\n".encode())
    assert contents(load_dataset_by_name(folder)) == {"train": [(name, f"  note, of {name}") for name in "abc"]}
    (folder / "notes" / "b.txt").unlink()
    (folder / "notes" / "c.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError) as caught:
        load_dataset_by_name(folder)
    assert len(caught.value.problems) == 3 and "not UTF-8" in str(caught.value)
    with pytest.warns(SkippedDataWarning):
        assert load_dataset_by_name(folder, on_error="skip")["train"]["id"] == ["a"]


def test_folders_of_splits_with_a_table_of_notes(folder):
    for split, name in (("train", "a"), ("val", "b")):
        for part in ("images", "masks"):
            (folder / split / part).mkdir(parents=True)
            (folder / part / f"{name}.png").rename(folder / split / part / f"{name}.png")
        (folder / split / "notes.csv").write_text(f"image,note\n{name}.png,note {name}\n")
    for part in ("images", "masks"):
        (folder / part / "c.png").unlink()
        (folder / part).rmdir()
    assert contents(load_dataset_by_name(folder)) == {"train": [("a", "note a")], "validation": [("b", "note b")]}


def test_everything_wrong_is_in_one_error(folder):
    (folder / "masks" / "b.png").write_bytes(b"")
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(folder / "masks" / "c.png")
    table = jsonl(
        folder / "all.jsonl",
        row("a"), row("a"), row("b"), row("c"),
        {"image": "images/none.png", "mask": "masks/a.png", "note": "x"},
        {**row("a"), "mask": "../outside.png"},
        row("a", " "), row("a", []), row("a", 3), row("a", split="sometimes"),
        {"image": "images/a.png", "note": "x"}, {"mask": "masks/a.png", "note": "x", "image": ""}, [1],
    )  # fmt: skip
    with open(table, "a") as file:
        file.write("{broken\n")
    with pytest.raises(DataError) as caught:
        load_image_note_mask(table)
    expected = [
        "listed twice", "0 bytes", "24 x 24 pixels, but its mask", "none.png is missing", "lies outside", "is empty; write",
        "empty list", "3 is a int", "no split 'sometimes'", "none of which is the mask", "no image; name the file",
        "a list where an object", "no JSON",
    ]  # fmt: skip
    for words in expected:
        assert sum(words in line for line in caught.value.problems) == 1, (words, caught.value.problems)
    assert len(caught.value.problems) == len(expected)
    with pytest.warns(SkippedDataWarning):
        assert load_image_note_mask(table, on_error="skip")["train"]["id"] == ["images/a"]
    # A stream reads no image beforehand, but every row.
    with pytest.raises(DataError) as caught:
        load_image_note_mask(table, streaming=True)
    assert len(caught.value.problems) == 9


def test_files_outside_the_folder_only_when_asked(folder):
    (folder / "lists").mkdir()
    table = folder / "lists" / "all.csv"
    table.write_text("image,mask,note\n../images/a.png,../masks/a.png,x\n")
    with pytest.raises(DataError, match="allow_outside"):
        load_image_note_mask(table)
    assert len(load_image_note_mask(table, allow_outside=True)["train"]) == 1


def test_painted_and_numbered_masks_come_out_plain(folder, tmp_path, arrays):
    classes = np.zeros((24, 24), np.uint8)
    classes[2:5], classes[8:12] = 1, 2
    Image.fromarray(np.array(COLOURS, np.uint8)[classes]).save(folder / "masks" / "a.png")
    table = jsonl(folder / "all.jsonl", row("a"))
    for streaming in (False, True):
        options = {"streaming": streaming} if streaming else {}
        rows = load_image_note_mask(table, num_labels=3, colours=COLOURS, **options)["train"]
        np.testing.assert_array_equal(read_mask(next(iter(rows))["mask"], 3), classes)
        rows = load_image_note_mask(table, instances=True, **options)["train"]
        np.testing.assert_array_equal(read_mask(next(iter(rows))["mask"]), classes > 0)
    with pytest.raises(DataError, match=r"colour\(s\) that are no class"):
        load_image_note_mask(table, num_labels=2, colours=COLOURS[:2])


def test_a_changed_mask_is_not_taken_from_the_cache(folder):
    table = jsonl(folder / "all.jsonl", row("a"))
    before = read_mask(load_image_note_mask(table, instances=True)["train"][0]["mask"])
    Image.fromarray(255 - before * 255).save(folder / "masks" / "a.png")
    after = read_mask(load_image_note_mask(table, instances=True)["train"][0]["mask"])
    np.testing.assert_array_equal(after, 1 - before)


def test_a_stream_is_dealt_out_without_loss(folder):
    table = jsonl(folder / "all.jsonl", *[row("abc"[i % 3], id=f"s{i}") for i in range(150)])
    rows = load_image_note_mask(table, streaming=True)["train"]
    assert rows.num_shards >= 8
    shards = [[r["id"] for r in rows.shard(4, i).select_columns(["id"])] for i in range(4)]
    assert all(shards) and sorted(name for shard in shards for name in shard) == sorted(f"s{i}" for i in range(150))


@pytest.mark.parametrize(
    ("name", "split"),
    [("Val_text.xlsx", "validation"), ("Train Set", "train"), ("testing", "test"), ("notes.csv", None),
     ("contest.csv", None), ("Test_text_for_Covid19.xlsx", "test")],
)  # fmt: skip
def test_names_that_mean_a_split(name, split):
    assert split_of(name) == split
