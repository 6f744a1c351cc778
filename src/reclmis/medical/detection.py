"""Telling formats apart, without the packages that read them."""

from io import BytesIO
from pathlib import Path

DICOM_SUFFIX = ".dcm"
NIFTI_SUFFIXES = (".nii", ".nii.gz")
_PREAMBLE = 128


def is_dicom(file: str | Path | BytesIO) -> bool:
    """Whether a file has DICOM's mark behind its preamble, whatever its name. A file that cannot be opened has none."""
    if isinstance(file, BytesIO):
        return file.getbuffer()[_PREAMBLE : _PREAMBLE + 4] == b"DICM"
    try:
        with open(file, "rb") as opened:
            return opened.read(_PREAMBLE + 4)[_PREAMBLE:] == b"DICM"
    except OSError:
        return False


def is_nifti(path: str | Path) -> bool:
    """Whether a file is called `.nii` or `.nii.gz`."""
    return str(path).lower().endswith(NIFTI_SUFFIXES)


def is_volume(path: str | Path) -> bool:
    """Whether a path is a NIfTI file, a DICOM file of several frames, or a folder of the DICOM files of one series."""
    path = Path(path)
    if is_nifti(path):
        return True
    if path.is_dir():
        return bool(dicom_files(path)) and is_series(path)
    return is_dicom(path) and _frames(path) > 1


def dicom_files(folder: Path) -> list[Path]:
    """The DICOM files of a folder, in order of name."""
    return sorted(path for path in folder.iterdir() if path.is_file() and is_dicom(path))


def is_series(folder: Path) -> bool:
    """Whether the DICOM files of a folder are slices of one series that lie beside each other."""
    from .dicom import header_of

    headers = [header_of(path) for path in dicom_files(folder)]
    series = {str(header.get("SeriesInstanceUID", number)) for number, header in enumerate(headers)}
    return len(headers) > 1 and len(series) == 1 and all("ImagePositionPatient" in header for header in headers)


def _frames(path: Path) -> int:
    from .dicom import header_of

    return int(header_of(path).get("NumberOfFrames") or 1)
