import nibabel
import numpy as np
import pytest
from PIL import Image

from reclmis.cli import main
from tests.medical.conftest import write_dicom, write_series
from tests.parts import write_checkpoint

NOTE = "upper left lung"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "checkpoint"
    write_checkpoint(folder, [NOTE, "lower right lung"])
    return str(folder)


@pytest.fixture
def scans(tmp_path, phantom):
    """A CT as NIfTI, the same as a DICOM series, and two radiographs as DICOM."""
    folder = tmp_path / "scans"
    folder.mkdir()
    affine = np.diag([-0.75, -0.5, 2.0, 1.0])
    array = np.transpose(phantom * 5 - 1000, (2, 1, 0)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(array, affine), folder / "scan.nii.gz")
    write_series(tmp_path / "series", (phantom * 5 + 24).astype(np.int16))
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 4096, (50, 60), dtype=np.uint16)
        write_dicom(folder / f"chest{number}.dcm", pixels, bits=12)
    return tmp_path


def predict(checkpoint, output, *arguments):
    return main(["predict", *map(str, arguments), "--model", checkpoint, "--output", str(output)])


def test_a_volume_and_images_of_one_folder(checkpoint, scans, capsys):
    answer = predict(
        checkpoint, scans / "out", scans / "scans", "--note", NOTE, "--orientation", "image", "--window", "lung"
    )
    assert answer == 0, capsys.readouterr().err
    names = {path.name for path in (scans / "out").glob("*_*")}
    pictures = {f"chest{number}_{kind}.png" for number in range(2) for kind in ("mask", "overlay")}
    assert names == {"scan_mask.nii.gz", "scan_overlay.png", *pictures}
    mask, scan = nibabel.load(scans / "out/scan_mask.nii.gz"), nibabel.load(scans / "scans/scan.nii.gz")
    assert mask.shape == scan.shape and set(np.unique(np.asarray(mask.dataobj))) <= {0, 1}
    np.testing.assert_array_equal(mask.affine, scan.affine)
    with Image.open(scans / "out/chest0_mask.png") as picture:
        assert picture.size == (60, 50)


def test_a_dicom_series_gives_the_mask_of_its_nifti(checkpoint, scans):
    assert predict(checkpoint, scans / "a", scans / "series", "--note", NOTE, "--orientation", "patient") == 0
    # The series states this window itself.
    assert predict(checkpoint, scans / "b", scans / "scans/scan.nii.gz", "--note", NOTE, "--orientation", "patient",
                   "--window=-600,1500", "--no-overlay") == 0  # fmt: skip
    of_series = np.asarray(nibabel.as_closest_canonical(nibabel.load(scans / "a/series_mask.nii.gz")).dataobj)
    of_nifti = np.asarray(nibabel.as_closest_canonical(nibabel.load(scans / "b/scan_mask.nii.gz")).dataobj)
    # Windows of DICOM are half a unit apart from plain ones, so a pixel on the threshold may differ.
    assert (of_series != of_nifti).mean() < 0.01
    assert [path.name for path in (scans / "b").glob("*_*")] == ["scan_mask.nii.gz"]


def test_volumes_ask_whose_left(checkpoint, scans, capsys):
    assert predict(checkpoint, scans / "out", scans / "scans/scan.nii.gz", "--note", NOTE) == 2
    assert "whose left" in capsys.readouterr().err
    assert predict(checkpoint, scans / "out", scans / "scans/scan.nii.gz", "--orientation", "image") == 2
    assert "--note" in capsys.readouterr().err


def test_a_volume_that_cannot_be_read_does_not_stop_the_others(checkpoint, scans, capsys):
    (scans / "scans/broken.nii.gz").write_bytes(b"nothing")
    answer = predict(checkpoint, scans / "out", scans / "scans", "--note", NOTE, "--orientation", "image")
    assert answer == 1
    error = capsys.readouterr().err
    assert "broken.nii.gz is damaged" in error and "give a window: lung" in error
    assert (scans / "out/chest1_mask.png").is_file() and not list((scans / "out").glob("*.nii*"))


@pytest.mark.parametrize("window", ["lungs", "1", "40,0", "a,b"])
def test_windows_that_are_none(checkpoint, scans, window, capsys):
    with pytest.raises(SystemExit) as caught:
        predict(checkpoint, scans / "out", scans / "scans", "--note", NOTE, "--window", window)
    assert caught.value.code == 2 and "--window" in capsys.readouterr().err
