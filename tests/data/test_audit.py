import shutil

import numpy as np
import pytest
from PIL import Image

from reclmis.data import audit, build_manifest, load_dataset_by_name, make_sample, scan_by_name
from reclmis.data.audit_report import audit_sheet, audit_text
from tests.data.conftest import LViTFolder


def fill(root, split, table, numbers, prefix=""):
    """A split of drawn radiographs, whose notes fit their masks."""
    folder = LViTFolder(root).split([], split=split, table=None)
    rows = []
    for number in numbers:
        sample, name = make_sample(number, size=64), f"{prefix}{number}"
        Image.fromarray(sample["image"]).save(folder / "img" / f"{name}.png")
        Image.fromarray(sample["mask"] * 255).save(folder / "labelcol" / f"{name}.png")
        rows.append((f"{name}.png", sample["note"]))
    LViTFolder.table(folder / table, rows)
    return folder


@pytest.fixture
def root(tmp_path):
    fill(tmp_path, "train", "Train_text.xlsx", range(6), "sub-s0")
    fill(tmp_path, "validation", "Val_text.xlsx", range(10, 13), "sub-s1")
    return tmp_path


def found_in(root, **options):
    return audit(scan_by_name(root, verify=False), **options)


def test_a_clean_set(root):
    found = found_in(root)
    assert found.issues == []
    report = found.splits["train"]
    assert (report.images, report.patients, report.unnamed, report.empty_masks) == (6, 6, 0, 0)
    assert report.sizes == {"64 x 64": 6} and report.notes_complete == 1.0
    masks = [make_sample(number, size=64)["mask"] for number in range(6)]
    assert report.classes[1] == {"pixels": pytest.approx(np.mean(masks)), "images": 6}
    assert report.note_fit["sides"] == 1.0 and report.note_fit["presence"] == 1.0
    assert found.manifest == build_manifest(load_dataset_by_name(root))
    assert "train: 6 samples (6 of 64 x 64 pixels)" in audit_text(found)


def image(root, split, name):
    return root / split / "img" / f"{name}.png"


def mask(root, split, name):
    return root / split / "labelcol" / f"{name}.png"


def copy_across(root):
    with Image.open(image(root, "Train_Folder", "sub-s02")) as original:
        original.save(image(root, "Val_Folder", "sub-s110"), compress_level=1)


def copy_smaller(root):
    size = (64, 64)
    with Image.open(image(root, "Train_Folder", "sub-s02")) as original:
        smaller = original.resize((40, 40), Image.Resampling.BICUBIC).resize(size, Image.Resampling.BICUBIC)
    smaller.save(image(root, "Val_Folder", "sub-s110"))


def copy_within(root):
    shutil.copy(image(root, "Train_Folder", "sub-s02"), image(root, "Train_Folder", "sub-s04"))


def share_a_patient(root):
    fill(root, "test", "Test_text.xlsx", [20], "sub-s02_")


def empty(root):
    Image.new("L", (64, 64)).save(mask(root, "Train_Folder", "sub-s01"))


def full(root):
    Image.new("L", (64, 64), 255).save(mask(root, "Train_Folder", "sub-s01"))


def blank(root):
    Image.new("RGB", (64, 64), (9, 9, 9)).save(image(root, "Train_Folder", "sub-s01"))


def broken(root):
    image(root, "Train_Folder", "sub-s01").write_bytes(b"")


def other_size(root):
    Image.new("L", (60, 64)).save(mask(root, "Train_Folder", "sub-s01"))


def orphan(root):
    mask(root, "Train_Folder", "sub-s01").unlink()


def mirror(root):
    pixels = np.zeros((64, 64), np.uint8)
    pixels[20:30, 5:15] = 255
    Image.fromarray(pixels).save(mask(root, "Train_Folder", "sub-s01"))
    notes(root, "Unilateral pulmonary infection, one infected area, middle right lung.")


def notes(root, note):
    LViTFolder.table(
        root / "Train_Folder" / "Train_text.xlsx",
        [(f"sub-s0{i}.png", note if i == 1 else make_sample(i, size=64)["note"]) for i in range(6)],
    )


DEFECTS = {
    "duplicate across splits": (copy_across, ("train/sub-s02", "validation/sub-s110")),
    "near duplicate across splits": (copy_smaller, ("train/sub-s02", "validation/sub-s110")),
    "duplicate": (copy_within, ("train/sub-s02", "train/sub-s04")),
    "patient across splits": (share_a_patient, ("test/sub-s02_20", "train/sub-s02")),
    "empty mask": (empty, ("train/sub-s01",)),
    "full mask": (full, ("train/sub-s01",)),
    "blank image": (blank, ("train/sub-s01",)),
    "unreadable": (broken, ("train/sub-s01",)),
    "files": (orphan, ()),
    "note against mask": (mirror, ("train/sub-s01",)),
    "note not understood": (
        lambda root: notes(root, "Bilateral pulmonary infection, two infected areas, gloomy left lung and right lung."),
        ("train/sub-s01",),
    ),
    "note contradicts itself": (
        lambda root: notes(root, "Unilateral pulmonary infection, lower left lung and lower right lung."),
        ("train/sub-s01",),
    ),
}


@pytest.mark.parametrize("kind", DEFECTS)
def test_each_defect_is_found_by_name(root, kind):
    damage, samples = DEFECTS[kind]
    damage(root)
    found = found_in(root)
    assert [issue.samples for issue in found.issues if issue.kind == kind] == [samples]
    # An unfitting mask or note is what it is, whatever else it is as well.
    assert set(found.counts()) <= {kind, "note against mask"}, found.issues


def test_sizes_that_differ(root):
    other_size(root)
    (issue,) = found_in(root).issues
    assert issue.kind == "unreadable" and "64 x 64" in issue.message and "64 x 60" in issue.message


def test_severity_and_what_is_accepted(root):
    copy_across(root)
    copy_within(root)
    found = found_in(root)
    assert {issue.kind for issue in found.of("error")} == {"duplicate across splits"}
    assert not found.of("error", ["duplicate across splits"])


def test_several_questions_about_one_image_are_no_duplicates(tmp_path):
    sample = make_sample(0, size=64)
    Image.fromarray(sample["image"]).save(tmp_path / "a.png")
    for name in ("mask", "distractor_mask"):
        Image.fromarray(sample[name] * 255).save(tmp_path / f"{name}.png")
    (tmp_path / "metadata.csv").write_text(
        f"image;mask;note\na.png;mask.png;{sample['note']}\na.png;distractor_mask.png;{sample['distractor_note']}\n"
    )
    assert found_in(tmp_path).issues == []


def test_images_that_a_checkpoint_was_trained_on(root):
    manifest = build_manifest(load_dataset_by_name(root))
    trained_on = {"train": manifest["validation"]}
    found = found_in(root, trained_on=trained_on)
    assert [issue.samples for issue in found.issues] == [(f"validation/sub-s1{i}",) for i in (10, 11, 12)]
    assert {issue.kind for issue in found.issues} == {"trained on"}


def test_everything_wrong_at_once_and_its_pictures(root):
    for damage in (copy_across, broken, share_a_patient):
        damage(root)
    inventory = scan_by_name(root, verify=False)
    found = audit(inventory)
    assert list(found.counts()) == ["unreadable", "duplicate across splits", "patient across splits"]
    text = audit_text(found, listed=1)
    assert "sub-s01.png is empty (0 bytes)" in text and "error: duplicate across splits (1)" in text
    sheet = audit_sheet(inventory, found, per_split=2)
    # Two samples of each of three splits, and what was found: one, two and two pictures.
    assert sheet.height == 30 + 8 + (3 * 2 - 1 + 1 + 2 + 2) * 208
