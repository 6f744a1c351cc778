"""Volumes listed in a table become slices, each a sample."""

import nibabel
import numpy as np
import pytest

from reclmis.data import DataError, VolumeFormat, audit, load_image_note_mask, read_mask, scan_by_name

NOTE = "Bilateral pulmonary infection, two infected areas, all left lung and all right lung."


@pytest.fixture
def table(tmp_path):
    draw = np.random.default_rng(0)
    for name in ("study_0001", "study_0002"):
        values = draw.integers(-1000, 400, (20, 16, 6)).astype(np.int16)
        mask = np.zeros(values.shape, np.uint8)
        mask[2:8, 3:9, 2:5] = 1
        for kind, array in ((name, values), (f"{name}_mask", mask)):
            nibabel.save(nibabel.Nifti1Image(array, np.diag([-1.0, -1, 3, 1])), tmp_path / f"{kind}.nii.gz")
    path = tmp_path / "all.csv"
    path.write_text(
        "image;mask;note;split\n"
        + "".join(
            f"{n}.nii.gz;{n}_mask.nii.gz;{NOTE};{s}\n" for n, s in (("study_0001", "train"), ("study_0002", "val"))
        )
    )
    return path


def test_slices_with_their_masks_and_scan(table, tmp_path):
    splits = load_image_note_mask(table, volumes=VolumeFormat(window="lung"), cache_dir=tmp_path / "cache")
    rows = splits["train"]
    assert rows["id"] == [f"study_0001@{number:03d}" for number in range(6)]
    assert set(rows["patient"]) == {"study_0001"} and set(rows["note"]) == {NOTE}
    values = np.asarray(nibabel.load(tmp_path / "study_0001.nii.gz").dataobj)
    for number, row in enumerate(rows):
        expected = np.clip((values[:, :, number].T + 1350) / 1500, 0, 1) * 255
        np.testing.assert_allclose(np.asarray(row["image"].convert("L")), expected, atol=1)
        mask = read_mask(row["mask"])
        assert mask.shape == (16, 20) and mask.any() == (2 <= number < 5)
    marked = load_image_note_mask(table, volumes=VolumeFormat("lung", slices="marked"), cache_dir=tmp_path / "cache")
    assert marked["validation"]["id"] == [f"study_0002@{number:03d}" for number in (2, 3, 4)]


def test_what_is_wrong_with_volumes_is_listed(table, tmp_path):
    with pytest.raises(DataError) as caught:
        load_image_note_mask(table)
    assert sum("give a window" in line for line in caught.value.problems) == 2
    mask = np.full((20, 16, 6), 3, np.uint8)
    nibabel.save(nibabel.Nifti1Image(mask, np.diag([-1.0, -1, 3, 1])), tmp_path / "study_0001_mask.nii.gz")
    (tmp_path / "study_0002_mask.nii.gz").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        load_image_note_mask(table, volumes=VolumeFormat("lung"))
    lines = caught.value.problems
    assert any("study_0001_mask.nii.gz, slice 0: The mask holds values 3" in line for line in lines)
    assert any("study_0002_mask.nii.gz is empty (0 bytes)" in line for line in lines)


def test_audited_by_scan(table):
    found = audit(scan_by_name(table, volumes=VolumeFormat("lung")))
    assert {split: (report.images, report.patients) for split, report in found.splits.items()} == {
        "train": (6, 1),
        "validation": (6, 1),
    }
    # The mask marks one side of three slices, and nothing in the other three.
    assert found.counts() == {"empty mask": 6, "note against mask": 6}
    table.write_text(table.read_text().replace("study_0002", "study_0001").replace(";val", ";test", 1))
    assert "files" in audit(scan_by_name(table, volumes=VolumeFormat("lung"))).counts()


def test_volumes_are_not_streamed_without_a_word(table):
    with pytest.raises(ValueError, match="not streamed"):
        load_image_note_mask(table, volumes=VolumeFormat("lung"), streaming=True)
