import os
import shutil
import time
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from reclmis.data import DataError, SkippedDataWarning, load_dataset_by_name, load_lvit, read_mask
from reclmis.data.pairing import pair_split
from reclmis.registry import data_sources, register_data_source

NAMES = ["covid_10", "covid_2", "covid_1"]


def problems_of(root, **options) -> list[str]:
    with pytest.raises(DataError) as caught:
        load_lvit(root, **options)
    return caught.value.problems


def test_features_order_and_content(lvit, arrays):
    lvit.split(NAMES)
    lvit.split(["x"], split="test", table="Test_text.xlsx")
    splits = load_lvit(lvit.root)
    assert list(splits) == ["train", "test"]
    rows = splits["train"]
    assert rows.column_names == ["image", "mask", "note", "id"]
    assert rows["id"] == sorted(NAMES)
    for row in rows:
        image, mask = arrays(NAMES.index(row["id"]))
        np.testing.assert_array_equal(np.asarray(row["image"]), image)
        np.testing.assert_array_equal(read_mask(row["mask"]), mask)
        assert row["note"] == f"note of {row['id']}"


@pytest.mark.parametrize(
    "layout",
    [
        {"mask_prefix": ""},
        {"image_suffix": ".jpg"},
        {"image_suffix": ".JPG"},
        {"mask_suffix": ".bmp"},
        {"columns": ("Image", "text")},
        {"rows": [(f"{name}.jpeg", "note") for name in NAMES]},
        {"rows": [(name, "note") for name in NAMES]},
        {"rows": [(f"labelcol/mask_{name}.png", "note") for name in reversed(NAMES)]},
        {"table": "Train_Val_text.xlsx"},
    ],
    ids=str,
)
def test_layouts_in_circulation(lvit, layout):
    lvit.split(NAMES, **layout)
    assert load_lvit(lvit.root)["train"]["id"] == sorted(NAMES)


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_delimited_tables(lvit, suffix):
    folder = lvit.split(["a"], table=None)
    mark = "\t" if suffix == ".tsv" else ";"
    (folder / f"Train_text{suffix}").write_text(f"Image{mark}text\na.png{mark}NA\n")
    assert load_lvit(lvit.root)["train"]["note"] == ["NA"]


@pytest.mark.parametrize("in_root", [True, False])
def test_one_table_for_training_and_validation(lvit, in_root):
    train = lvit.split(["a", "b"], table=None)
    lvit.split(["c"], split="validation", table=None)
    place = lvit.root if in_root else train
    lvit.table(place / "Train_Val_text.xlsx", [(f"{name}.png", name) for name in "abc"])
    splits = load_lvit(lvit.root)
    assert {split: splits[split]["note"] for split in splits} == {"train": ["a", "b"], "validation": ["c"]}
    assert load_lvit(lvit.root, ["train"])["train"]["id"] == ["a", "b"]
    lvit.table(place / "Train_Val_text.xlsx", [(f"{name}.png", name) for name in "abcd"])
    assert any("'d' has no image" in line for line in problems_of(lvit.root))


def test_five_broken_files_of_a_hundred_are_named_in_one_error(lvit):
    names = [f"s{number:03d}" for number in range(100)]
    folder = lvit.split(names)
    images, masks = folder / "img", folder / "labelcol"
    (images / "s007.png").write_bytes(b"")
    (images / "s021.png").write_bytes((images / "s021.png").read_bytes()[:200])
    (masks / "mask_s050.png").write_bytes(b"plain text, no image")
    Image.fromarray(np.zeros((24, 25), np.uint8)).save(masks / "mask_s063.png")
    Image.fromarray(np.full((24, 24), 7, np.uint8)).save(masks / "mask_s099.png")
    problems = problems_of(lvit.root)
    assert len(problems) == 5
    for name, words in {
        "s007.png": "0 bytes",
        "s021.png": "damaged",
        "mask_s050.png": "no image",
        "mask_s063.png": "24 x 24 pixels, but its mask",
        "mask_s099.png": "7",
    }.items():
        assert [line for line in problems if name in line and words in line], (name, problems)
    assert all(line.startswith("train: ") for line in problems)

    with pytest.warns(SkippedDataWarning) as caught:
        kept = load_lvit(lvit.root, on_error="skip")["train"]["id"]
    assert kept == [name for name in names if name not in ("s007", "s021", "s050", "s063", "s099")]
    assert len(caught) == 1 and all(line in str(caught[0].message) for line in problems)


def rename(folder, part, old, new):
    (folder / part / old).rename(folder / part / new)


def copy(folder, part, old, new):
    with Image.open(folder / part / old) as image:
        image.save(folder / part / new)


MISFITS = {
    "missing mask": (lambda f: (f / "labelcol/mask_b.png").unlink(), {"b"}, ["image b.png has no mask"]),
    "renamed mask": (
        lambda f: rename(f, "labelcol", "mask_b.png", "mask_z.png"),
        {"b"},
        ["image b.png has no mask", "mask mask_z.png has no image"],
    ),
    "orphan mask": (lambda f: copy(f, "labelcol", "mask_b.png", "mask_z.png"), set(), ["mask mask_z.png has no image"]),
    "missing image": (lambda f: (f / "img/b.png").unlink(), {"b"}, ["mask mask_b.png has no image"]),
    "image without note": (
        lambda f: [copy(f, "img", "b.png", "z.png"), copy(f, "labelcol", "mask_b.png", "mask_z.png")],
        set(),
        ["image z.png has no note"],
    ),
    "case of a name": (
        lambda f: rename(f, "labelcol", "mask_b.png", "mask_B.png"),
        {"b"},
        ["'B' differs only in case", "'b' differs only in case"],
    ),
    "case of an extension": (lambda f: rename(f, "img", "b.png", "b.PNG"), {"b"}, ["rename it to b.png"]),
    "two images, one stem": (lambda f: copy(f, "img", "b.png", "b.jpg"), {"b"}, ["2 images share the name 'b'"]),
    "two masks, one stem": (
        lambda f: copy(f, "labelcol", "mask_b.png", "b.png"),
        {"b"},
        ["2 masks share the name 'b' (b.png, mask_b.png)"],
    ),
    "unknown extension": (lambda f: (f / "img/z.heic").write_bytes(b"x"), set(), ["z.heic has an unknown extension"]),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_files_that_do_not_fit(lvit, misfit):
    act, left_out, expected = MISFITS[misfit]
    act(lvit.split(["a", "b", "c"]))
    problems = problems_of(lvit.root)
    for words in expected:
        assert any(words in line for line in problems), problems
    assert len(problems) <= 2
    with pytest.warns(SkippedDataWarning):
        assert set(load_lvit(lvit.root, on_error="skip")["train"]["id"]) == {"a", "b", "c"} - left_out


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("a.png", "x"), ("b.png", "y"), ("c.png", "z")], "the note of 'c' has no image"),
        ([("a.png", "x"), ("mask_a.png", "x"), ("b.png", "y")], "2 rows of notes for 'a'"),
        ([("a.png", "x"), ("b.png", " ")], "the note of b.png is empty"),
        ([("a.png", "x"), ("b.png", None)], "the note of b.png is empty"),
        ([("a.png", "x"), ("B.png", "y")], "'B' differs only in case"),
        ([("a.png", "x"), ("b.png", "y"), (None, "lost")], "a note has no image name: 'lost'"),
        ([("a.png", "x"), ("b.png", 12)], "row 3: 12 is a int"),
    ],
)
def test_notes_that_do_not_fit(lvit, rows, words):
    lvit.split(["a", "b"], rows=rows)
    problems = problems_of(lvit.root)
    assert any(words in line for line in problems), problems
    with pytest.warns(SkippedDataWarning):
        assert "a" in load_lvit(lvit.root, on_error="skip")["train"]["id"] or "2 rows" in words


def test_problems_of_all_splits_come_together(lvit):
    train = lvit.split(["a", "b"])
    lvit.split(["b", "c"], split="validation", table=None)
    (train / "img/a.png").write_bytes(b"")
    problems = problems_of(lvit.root)
    assert any("a.png is empty" in line for line in problems)
    assert any(line.startswith("validation: ") and "no table of notes" in line for line in problems)


def test_an_image_of_two_splits_is_kept_in_the_first(lvit):
    lvit.split(["a", "b"])
    lvit.split(["b", "c"], split="validation", table="Val_text.xlsx")
    assert any("b.png is also in train" in line for line in problems_of(lvit.root))
    with pytest.warns(SkippedDataWarning, match="also in train"):
        splits = load_lvit(lvit.root, on_error="skip")
    assert (splits["train"]["id"], splits["validation"]["id"]) == (["a", "b"], ["c"])


def test_a_split_without_any_sample_is_an_error_even_when_skipping(lvit):
    folder = lvit.split(["a"])
    (folder / "img/a.png").write_bytes(b"")
    with pytest.raises(DataError, match="no usable sample"):
        load_lvit(lvit.root, on_error="skip")


def test_the_order_of_the_directory_never_matters(lvit, monkeypatch):
    lvit.split(NAMES)
    expected = load_lvit(lvit.root)["train"]["note"]
    listing = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: sorted(listing(path), reverse=True))
    assert load_lvit(lvit.root)["train"]["note"] == expected
    folder = lvit.root / "Train_Folder"
    images, masks = list((folder / "img").iterdir()), list((folder / "labelcol").iterdir())
    notes = [(name, "n") for name in NAMES]
    forward, _ = pair_split("train", images, masks, notes)
    backward, _ = pair_split("train", images[::-1], masks[::-1], notes[::-1])
    assert forward == backward


def test_a_bomb_is_a_named_problem_and_no_hang(lvit):
    folder = lvit.split(["a", "b"])
    header = b"\x89PNG\r\n\x1a\n"

    def chunk(kind, data):
        body = kind + data
        return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    size = (60000).to_bytes(4, "big")
    bomb = header + chunk(b"IHDR", size + size + b"\x08\x00\x00\x00\x00") + chunk(b"IDAT", zlib.compress(bytes(10**6)))
    (folder / "img/a.png").write_bytes(bomb)
    start = time.monotonic()
    problems = problems_of(lvit.root)
    assert time.monotonic() - start < 5
    assert len(problems) == 1 and "a.png" in problems[0] and "is refused" in problems[0]


def test_files_without_partners_are_verified_as_well(lvit):
    folder = lvit.split(["a", "b"])
    (folder / "labelcol/mask_b.png").unlink()
    (folder / "img/b.png").write_bytes(b"broken")
    problems = problems_of(lvit.root)
    assert any("b.png has no mask" in line for line in problems) and any(
        "no image of a kind" in line for line in problems
    )


def test_without_verification_no_file_is_opened(lvit):
    folder = lvit.split(["a", "b"])
    (folder / "img/a.png").write_bytes(b"broken")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_lvit(lvit.root, verify=False)["train"]["id"] == ["a", "b"]


def test_classes_of_masks_are_checked(lvit):
    folder = lvit.split(["a"])
    Image.fromarray(np.full((24, 24), 2, np.uint8)).save(folder / "labelcol/mask_a.png")
    assert len(load_lvit(lvit.root, num_labels=3)["train"]) == 1
    assert any("0 to 1" in line for line in problems_of(lvit.root, num_labels=2))


def test_hidden_files_and_lock_files_are_no_data(lvit):
    folder = lvit.split(["a"])
    for name in ("img/.DS_Store", "labelcol/Thumbs.db", "~$Train_text.xlsx", "._Train_text.xlsx"):
        (folder / name).write_bytes(b"x")
    assert len(load_lvit(lvit.root)["train"]) == 1


def test_wrong_requests_say_what_exists(lvit, tmp_path):
    folder = lvit.split(["a"])
    with pytest.raises(ValueError, match="on_error"):
        load_lvit(lvit.root, on_error="ignore")
    with pytest.raises(ValueError, match="'val'.*validation"):
        load_lvit(lvit.root, ["val"])
    with pytest.raises(FileNotFoundError, match="Train_Folder"):
        load_lvit(folder)
    assert any("Test_Folder" in line for line in problems_of(lvit.root, splits=["test"]))
    shutil.copy(folder / "Train_text.xlsx", folder / "Other_text.xlsx")
    assert any("several tables" in line for line in problems_of(lvit.root))
    with pytest.raises(ValueError, match="synthetic"):
        load_dataset_by_name(tmp_path / "nowhere")


def test_sources_by_name_and_from_outside(lvit, monkeypatch):
    lvit.split(["a"])
    assert len(load_dataset_by_name(lvit.root)["train"]) == 1
    assert len(load_dataset_by_name(f"lvit:{lvit.root}", splits=["train"])["train"]) == 1
    assert len(load_dataset_by_name("synthetic", num_train=3, num_validation=1, size=32)["train"]) == 3
    with pytest.raises(TypeError, match="colour"):
        load_dataset_by_name("synthetic", colour="red")

    monkeypatch.setattr(data_sources, "_parts", dict(data_sources._parts))

    @register_data_source("mine")
    def load(argument="", **options):
        return argument, options

    assert load_dataset_by_name("mine:fold1", seed=3) == ("fold1", {"seed": 3})


def test_a_name_comes_before_a_folder_of_that_name(tmp_path, monkeypatch):
    (tmp_path / "synthetic").mkdir()
    monkeypatch.chdir(tmp_path)
    assert len(load_dataset_by_name("synthetic", num_train=1, num_validation=1, size=32)["train"]) == 1
    with pytest.raises(ValueError, match="no layout that is known"):
        load_dataset_by_name("./synthetic")


@pytest.mark.parametrize(("name", "sizes"), [("QaTa-COV19", (1200, 300)), ("MoNuSeg", (24, 6))])
def test_the_real_folders(shared, name, sizes):
    root = shared / "data" / name
    if not root.is_dir():
        pytest.skip(f"No {root}.")
    splits = load_lvit(root)
    assert (len(splits["train"]), len(splits["validation"])) == sizes
    row = splits["train"][0]
    assert read_mask(row["mask"]).shape == row["image"].size[::-1]
