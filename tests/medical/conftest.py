"""DICOM files as scanners write them, made with pydicom."""

from pathlib import Path

import numpy as np
import pytest

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"


def write_dicom(path: Path, stored: np.ndarray, *, bits: int = 16, photometric: str = "MONOCHROME2", **tags) -> Path:
    """Stored values `[H, W]`, `[N, H, W]` or `[H, W, 3]` (RGB) with whatever else the header shall say."""
    from pydicom import Dataset, FileMetaDataset
    from pydicom.uid import UID, generate_uid

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(EXPLICIT_LITTLE)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = UID(SECONDARY_CAPTURE)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.Modality = "DX"
    colours = photometric in ("RGB", "YBR_FULL")
    dataset.SamplesPerPixel = 3 if colours else 1
    if colours:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = photometric
    if not colours and stored.ndim == 3:
        dataset.NumberOfFrames = len(stored)
    dataset.Rows, dataset.Columns = stored.shape[:2] if colours else stored.shape[-2:]
    dataset.BitsAllocated = 8 * stored.dtype.itemsize
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    dataset.PixelData = stored.tobytes()
    for name, value in tags.items():
        setattr(dataset, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_series(folder: Path, volume: np.ndarray, *, order=None, spacing=(2.0, 0.5, 0.75), **tags) -> Path:
    """int16 `[slice, row, column]`, axial, the first slice the lowest; rows run to the back, columns to the left."""
    from pydicom.uid import generate_uid

    series = generate_uid()
    names = range(len(volume)) if order is None else order
    for name, (number, pixels) in zip(names, enumerate(volume), strict=True):
        place = {
            "SeriesInstanceUID": series,
            "ImagePositionPatient": [-10.0, -20.0, 5.0 + number * spacing[0]],
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "PixelSpacing": [spacing[1], spacing[2]],
            "Modality": "CT",
            "RescaleSlope": 1,
            "RescaleIntercept": -1024,
            "WindowCenter": -600,
            "WindowWidth": 1500,
        }
        write_dicom(folder / f"IM{name:04d}", pixels, **{**place, **tags})
    return folder


@pytest.fixture
def phantom() -> np.ndarray:
    """`[slice, row, column]` of a body with a mark on its left side, in front, that grows upwards; no symmetry."""
    slices, rows, columns = 7, 20, 24
    body = np.zeros((slices, rows, columns), np.float32)
    body[:, 2:-2, 3:-3] = 90
    for number in range(slices):
        # Columns run to the patient's left, rows to the back.
        body[number, 4 : 7 + number, 15:20] = 200
    body[0] = 40
    return body
