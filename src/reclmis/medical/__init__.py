"""DICOM and NIfTI, through pydicom and nibabel (`pip install reclmis[medical]`)."""

from .detection import is_dicom, is_nifti, is_volume
from .dicom import read_dicom
from .prediction import VolumePrediction, predict_volume
from .volume import Volume, read_label_volume, read_volume, save_mask
from .windows import WINDOWS

__all__ = [
    "WINDOWS",
    "Volume",
    "VolumePrediction",
    "is_dicom",
    "is_nifti",
    "is_volume",
    "predict_volume",
    "read_dicom",
    "read_label_volume",
    "read_volume",
    "save_mask",
]
