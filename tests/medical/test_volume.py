import gzip
import itertools

import nibabel
import numpy as np
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform

from reclmis.images import UnreadableImageError
from reclmis.medical import is_volume, read_label_volume, read_volume, save_mask
from tests.medical.conftest import write_dicom, write_series

# The phantom [slice, row, column] as an array [x, y, z] in RAS+: columns run to the left, rows to the back.
SPACING = (0.75, 0.5, 2.0)


def as_ras(phantom):
    return np.transpose(phantom, (2, 1, 0))[::-1, ::-1]


def write_nifti(path, array, affine=None, dtype=np.int16):
    affine = np.diag([*SPACING, 1.0]) if affine is None else affine
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(array).astype(dtype), affine), path)
    return path


def all_orientations():
    for axes in itertools.permutations(("LR", "PA", "IS")):
        for signs in itertools.product((0, 1), repeat=3):
            yield "".join(axis[sign] for axis, sign in zip(axes, signs, strict=True))


def stored_as(path, phantom, codes):
    """The phantom written in an orientation, with the affine that says so."""
    ras = as_ras(phantom)
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = (-7, 11, 3)
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(tuple(codes)))
    return write_nifti(path, apply_orientation(ras, turn), affine @ inv_ornt_aff(turn, ras.shape))


@pytest.mark.parametrize("codes", list(all_orientations()))
def test_all_48_orientations_show_the_same_slices_and_masks_come_back(tmp_path, phantom, codes):
    path = stored_as(tmp_path / "scan.nii.gz", phantom, codes)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.slices, phantom.astype(np.uint8))
    assert volume.spacing == pytest.approx((2.0, 0.5, 0.75))
    mask = (volume.slices == 200).astype(np.uint8)
    written = nibabel.load(save_mask(volume, mask, tmp_path / "mask.nii.gz"))
    original = nibabel.load(path)
    np.testing.assert_array_equal(np.asarray(written.dataobj), np.asarray(original.dataobj) == 200)
    np.testing.assert_allclose(written.affine, original.affine, atol=1e-5)
    assert written.get_data_dtype() == np.uint8
    assert "".join(nibabel.aff2axcodes(written.affine)) == codes
    np.testing.assert_array_equal(read_label_volume(tmp_path / "mask.nii.gz", volume), mask)


def test_frames_of_display(tmp_path, phantom):
    path = stored_as(tmp_path / "scan.nii", phantom, "LPI")
    axial, right = read_volume(path), read_volume(path, view="neurological")
    np.testing.assert_array_equal(right.slices, axial.slices[:, :, ::-1])
    # The mark is on the patient's left, in front: right and up in the radiological view.
    rows, columns = np.nonzero(axial.slices[3] == 200)
    assert rows.mean() < 10 and columns.mean() > 12
    coronal = read_volume(path, plane="coronal")
    # Slices from back to front, rows downwards, columns to the left.
    np.testing.assert_array_equal(coronal.slices, np.transpose(phantom, (1, 0, 2))[::-1, ::-1].astype(np.uint8))
    sagittal = read_volume(path, plane="sagittal")
    np.testing.assert_array_equal(sagittal.slices, np.transpose(phantom, (2, 0, 1))[:, ::-1].astype(np.uint8))
    for volume in (axial, right, coronal, sagittal):
        np.testing.assert_array_equal(volume.to_grid(volume.slices), np.asarray(nibabel.load(path).dataobj))
    with pytest.raises(ValueError, match="No plane 'oblique'"):
        read_volume(path, plane="oblique")


def test_oblique_affines_stay(tmp_path, phantom):
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(SPACING)
    affine[:3, 3] = (5, -6, 7)
    path = write_nifti(tmp_path / "scan.nii.gz", as_ras(phantom), affine)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.slices, phantom.astype(np.uint8))
    written = nibabel.load(save_mask(volume, np.ones_like(volume.slices), tmp_path / "mask.nii.gz"))
    np.testing.assert_allclose(written.affine, affine, atol=1e-5)


def test_codes_of_the_coordinate_systems_are_kept(tmp_path, phantom):
    image = nibabel.Nifti1Image(as_ras(phantom).astype(np.int16).copy(), np.diag([*SPACING, 1.0]))
    image.set_sform(image.affine, code=4)
    image.set_qform(image.affine, code=1)
    nibabel.save(image, tmp_path / "scan.nii")
    volume = read_volume(tmp_path / "scan.nii")
    written = nibabel.load(save_mask(volume, np.zeros_like(volume.slices), tmp_path / "mask.nii"))
    assert (int(written.header["sform_code"]), int(written.header["qform_code"])) == (4, 1)


def test_values_that_need_a_window(tmp_path, phantom):
    hounsfield = as_ras(phantom) * 5 - 1000
    path = write_nifti(tmp_path / "ct.nii.gz", hounsfield)
    with pytest.raises(ValueError, match=r"from -1000 to 0.*lung.*'full'"):
        read_volume(path)
    np.testing.assert_allclose(read_volume(path, window="full").slices, phantom / 200 * 255, atol=1)
    expected = np.clip((phantom * 5 - 1000 + 1350) / 1500, 0, 1) * 255
    np.testing.assert_allclose(read_volume(path, window="lung").slices, expected, atol=1)


def test_scaled_storage_is_undone(tmp_path, phantom):
    image = nibabel.Nifti1Image(as_ras(phantom).astype(np.float32).copy(), np.eye(4))
    image.header.set_data_dtype(np.int16)
    image.header.set_slope_inter(0.5, 0)
    nibabel.save(image, tmp_path / "scan.nii.gz")
    np.testing.assert_allclose(read_volume(tmp_path / "scan.nii.gz").slices, phantom / 2, atol=1)


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_dicom_series_equals_the_nifti_of_it(tmp_path, phantom, shuffled):
    stored = (phantom * 5 + 24).astype(np.int16)
    order = [4, 0, 6, 2, 1, 5, 3] if shuffled else None
    folder = write_series(tmp_path / "series", stored, order=order)
    assert is_volume(folder)
    volume = read_volume(folder)
    expected = np.clip((phantom * 5 - 1000 + 1350) / 1500, 0, 1) * 255
    np.testing.assert_allclose(volume.slices, expected, atol=1)
    assert volume.shape == (24, 20, 7) and volume.spacing == pytest.approx((2.0, 0.5, 0.75))
    # The first column of the first row, in RAS+: DICOM's -10, -20, 5 with two signs changed.
    np.testing.assert_allclose(volume.affine @ [0, 0, 0, 1], [10, 20, 5, 1])
    np.testing.assert_allclose(volume.affine @ [1, 1, 1, 1], [10 - 0.75, 20 - 0.5, 7, 1])
    mask = (phantom == 200).astype(np.uint8)
    written = nibabel.load(save_mask(volume, mask, tmp_path / "mask.nii.gz"))
    ras = nibabel.as_closest_canonical(written)
    np.testing.assert_array_equal(np.asarray(ras.dataobj), as_ras(mask))


def test_frames_in_one_file(tmp_path, phantom):
    path = write_dicom(tmp_path / "stack.dcm", phantom.astype(np.uint16), bits=12)
    assert is_volume(path)
    volume = read_volume(path)
    np.testing.assert_allclose(volume.slices, phantom / 200 * 255, atol=1)
    assert volume.spacing == (1.0, 1.0, 1.0)


def remove_a_slice(folder):
    (folder / "IM0003").unlink()


def add_another_series(folder):
    write_dicom(folder / "other", np.zeros((20, 24), np.int16), SeriesInstanceUID="1.2.3")


def lose_a_place(folder):
    from pydicom import dcmread

    header = dcmread(folder / "IM0002")
    del header.ImagePositionPatient
    header.save_as(folder / "IM0002")


def tilt_a_slice(folder):
    from pydicom import dcmread

    header = dcmread(folder / "IM0002")
    header.ImageOrientationPatient = [0, 1, 0, 0, 0, 1]
    header.save_as(folder / "IM0002")


def double_a_slice(folder):
    (folder / "copy").write_bytes((folder / "IM0002").read_bytes())


def cut_a_slice(folder):
    (folder / "IM0002").write_bytes((folder / "IM0002").read_bytes()[:-100])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove_a_slice, "4 mm between IM0002 and IM0004; is one missing"),
        (add_another_series, "2 series"),
        (lose_a_place, "IM0002 do not say where"),
        (tilt_a_slice, "IM0002 lie in another direction"),
        (double_a_slice, "0 mm between|at one place"),
        (cut_a_slice, "IM0002 is damaged"),
    ],
)
def test_series_that_are_no_volume(tmp_path, phantom, damage, message):
    folder = write_series(tmp_path / "series", phantom.astype(np.int16))
    damage(folder)
    with pytest.raises(UnreadableImageError, match=message):
        read_volume(folder)


def damaged_nifti(tmp_path, phantom):
    good = as_ras(phantom).astype(np.int16)
    nan = good.astype(np.float32).copy()
    nan[3, 4, 5] = np.nan
    raw = write_nifti(tmp_path / "good.nii", good).read_bytes()
    header = bytearray(raw[:352])
    header[42:44] = (32767).to_bytes(2, "little")
    header[44:46] = (32767).to_bytes(2, "little")
    (tmp_path / "huge.nii.gz").write_bytes(gzip.compress(bytes(header) + bytes(5000)))
    (tmp_path / "cut.nii").write_bytes(raw[:3000])
    packed = gzip.compress(raw)
    (tmp_path / "cut.nii.gz").write_bytes(packed[: len(packed) // 2])
    (tmp_path / "zero.nii").write_bytes(b"")
    (tmp_path / "text.nii.gz").write_text("no volume")
    write_nifti(tmp_path / "nan.nii", nan, dtype=np.float32)
    write_nifti(tmp_path / "time.nii", np.stack([good, good], axis=3))
    write_nifti(tmp_path / "flat.nii", good[:, :, 0])
    return {"huge.nii.gz": "at most", "cut.nii": "damaged", "cut.nii.gz": "damaged", "zero.nii": "0 bytes",
            "text.nii.gz": "damaged", "nan.nii": "1 voxels that are nan", "time.nii": "three dimensions",
            "flat.nii": "three dimensions", "none.nii": "missing"}  # fmt: skip


def test_files_that_are_no_volume(tmp_path, phantom):
    for name, message in damaged_nifti(tmp_path, phantom).items():
        with pytest.raises(UnreadableImageError, match=message) as caught:
            pytest.fail(f"{name} gave {read_volume(tmp_path / name, window='full').shape}")
        assert name in str(caught.value)


def test_a_fourth_dimension_of_one_is_none(tmp_path, phantom):
    path = write_nifti(tmp_path / "scan.nii", as_ras(phantom)[..., None])
    np.testing.assert_array_equal(read_volume(path).slices, phantom.astype(np.uint8))


def test_masks_that_are_not_of_this_volume(tmp_path, phantom):
    volume = read_volume(write_nifti(tmp_path / "scan.nii", as_ras(phantom)))
    mask = as_ras(phantom) == 200
    with pytest.raises(ValueError, match=r"\(23, 20, 7\) voxels, but .*\(24, 20, 7\)"):
        read_label_volume(write_nifti(tmp_path / "a.nii", mask[1:]), volume)
    moved = np.diag([*SPACING, 1.0])
    moved[0, 3] = 2
    with pytest.raises(ValueError, match="differ by 2 mm"):
        read_label_volume(write_nifti(tmp_path / "b.nii", mask, moved), volume)
    with pytest.raises(ValueError, match="class indices are whole"):
        read_label_volume(write_nifti(tmp_path / "c.nii", mask * 0.5, dtype=np.float32), volume)
    with pytest.raises(ValueError, match="slices have shape"):
        save_mask(volume, np.zeros((3, 4, 5), np.uint8), tmp_path / "d.nii")
    with pytest.raises(ValueError, match="must end in"):
        save_mask(volume, np.zeros_like(volume.slices), tmp_path / "d.png")
    assert not list(tmp_path.glob(".writing*")) and not (tmp_path / "d.nii").exists()
