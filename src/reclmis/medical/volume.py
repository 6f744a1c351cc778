"""Volumes as slices in a frame that is said, and masks of slices back on the volume's own grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import MissingPackageError, UnreadableImageError, one_line
from ..files import replacing
from .detection import dicom_files, is_nifti
from .dicom import MAX_VOXELS, frame_header, header_of, is_colour, modality_values, read_header, render
from .windows import FULL, WINDOWS, Window, apply_window

Plane = Literal["axial", "coronal", "sagittal"]
View = Literal["radiological", "neurological"]

# Towards what slices, rows and columns of a display run, as nibabel writes it: in an axial slice seen radiologically, rows
# run to the back (P) and columns to the patient's left (L), so that the patient's right is on the image's left.
_FRAMES: dict[tuple[str, str], str] = {
    ("axial", "radiological"): "SPL",
    ("axial", "neurological"): "SPR",
    ("coronal", "radiological"): "AIL",
    ("coronal", "neurological"): "AIR",
    ("sagittal", "radiological"): "LIP",
    ("sagittal", "neurological"): "LIP",
}
# Slices of one series whose distances differ by more lie unevenly, or one is missing.
_SPACING_TOLERANCE = 0.05
_AFFINE_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Volume:
    """Slices to be looked at, and where they lie.

    Attributes:
        slices: uint8 `[N, H, W]`, grey, in the frame of `plane` and `view`.
        affine: `[4, 4]`, from the indices of the file's array to millimetres, RAS+ (as NIfTI).
        shape: of the file's array, (X, Y, Z).
        plane: which way the volume was cut.
        view: `"radiological"`: the patient's right is on the image's left; `"neurological"`: it is on the right. Sagittal
            slices have no side; anterior is on the left in either view.
        source: the file or folder.
        header: nibabel's, of a NIfTI file.
    """

    slices: np.ndarray
    affine: np.ndarray
    shape: tuple[int, int, int]
    plane: Plane
    view: View
    source: str
    header: Any = None

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres between slices, rows and columns."""
        from nibabel.affines import voxel_sizes

        axes = _orientation(self.affine, self.plane, self.view)[:, 0].astype(int)
        sizes = np.empty(3)
        sizes[axes] = voxel_sizes(self.affine)
        return float(sizes[0]), float(sizes[1]), float(sizes[2])

    def to_grid(self, slices: np.ndarray) -> np.ndarray:
        """Slices `[N, H, W]` as an array `[X, Y, Z]` on the file's own grid.

        Raises:
            ValueError: another shape than that of the volume's slices.
        """
        if slices.shape != self.slices.shape:
            raise ValueError(f"The slices have shape {slices.shape}, but the volume's {self.slices.shape}.")
        return _from_display(slices, self.affine, self.plane, self.view)


def read_volume(
    path: str | Path, *, window: Window | None = None, plane: Plane = "axial", view: View = "radiological"
) -> Volume:
    """A NIfTI file, a folder with the DICOM files of one series, or a DICOM file of several frames, as slices.

    Args:
        path: `.nii`, `.nii.gz`, a folder or a DICOM file.
        window: a name of `WINDOWS`, (level, width), or `"full"`. NIfTI does not say what its values mean: those within 0
            and 255 are taken as they are, others need a window. For DICOM see [`read_dicom`].
        plane: across which direction to cut. A file may be stored in any orientation; its affine tells.
        view: on which side the patient's right lies, see [`Volume`].

    Raises:
        UnreadableImageError: damaged, several series, slices missing or uneven, another number of dimensions than three,
            nan, or more than `MAX_VOXELS` voxels.
        ValueError: a window is needed or wrong, or a plane or view that there is not.
        MissingPackageError: nibabel or pydicom is not installed.
    """
    path = Path(path)
    if (plane, view) not in _FRAMES:
        raise ValueError(
            f"No plane {plane!r} with view {view!r}; choose axial, coronal or sagittal, and radiological or neurological."
        )
    header = None
    if is_nifti(path):
        values, affine, header = _read_nifti(path)
        grey = _nifti_grey(values, window, path)
    elif path.is_dir():
        grey, affine = _read_series(path, window)
    else:
        grey, affine = _read_frames(path, window)
    slices = np.ascontiguousarray(_to_display(grey, affine, plane, view))
    x, y, z = grey.shape
    return Volume(slices, affine, (x, y, z), plane, view, str(path), header)


def read_label_volume(path: str | Path, like: Volume) -> np.ndarray:
    """The mask of a volume, class indices uint8 `[N, H, W]` in the volume's frame.

    Args:
        path: `.nii` or `.nii.gz`.
        like: the volume, on whose grid the mask must lie.

    Raises:
        UnreadableImageError: see [`read_volume`].
        ValueError: another shape or affine, or values that are no class indices.
    """
    values, affine, _ = _read_nifti(Path(path))
    if values.shape != like.shape:
        raise ValueError(
            f"{path} has {values.shape} voxels, but {like.source} has {like.shape}; give the mask of this volume."
        )
    if np.abs(affine - like.affine).max() > _AFFINE_TOLERANCE:
        raise ValueError(
            f"{path} lies elsewhere than {like.source}: affines differ by {np.abs(affine - like.affine).max():.3g} mm; "
            "resample it onto the volume."
        )
    if not (values == np.rint(values)).all() or values.min() < 0 or values.max() > 255:
        raise ValueError(
            f"{path} holds values from {values.min():g} to {values.max():g}; class indices are whole, 0 to 255."
        )
    return np.ascontiguousarray(_to_display(values.astype(np.uint8), like.affine, like.plane, like.view))


def save_mask(volume: Volume, mask: np.ndarray, path: str | Path) -> Path:
    """Writes a mask as NIfTI on the volume's own grid: same shape, affine, and codes of its coordinate systems.

    The file is there whole or not at all.

    Args:
        volume: what was segmented.
        mask: class indices uint8 `[N, H, W]`, in the volume's frame.
        path: `.nii` or `.nii.gz`.

    Raises:
        ValueError: another shape than that of the volume's slices, or another extension.
    """
    import nibabel

    path = Path(path)
    if not is_nifti(path):
        raise ValueError(f"{path} must end in .nii or .nii.gz.")
    image = nibabel.Nifti1Image(volume.to_grid(mask).astype(np.uint8), volume.affine)
    if volume.header is not None:
        image.set_sform(volume.affine, code=int(volume.header["sform_code"]) or 1)
        if int(volume.header["qform_code"]):
            image.set_qform(volume.header.get_qform(), code=int(volume.header["qform_code"]))
        image.header.set_xyzt_units(*volume.header.get_xyzt_units())
    with replacing(path) as temporary:
        nibabel.save(image, temporary)
    return path


def _to_display(array: np.ndarray, affine: np.ndarray, plane: str, view: str) -> np.ndarray:
    from nibabel.orientations import apply_orientation

    return apply_orientation(array, _orientation(affine, plane, view))


def _from_display(slices: np.ndarray, affine: np.ndarray, plane: str, view: str) -> np.ndarray:
    from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform

    shown = axcodes2ornt(tuple(_FRAMES[plane, view]))
    return np.ascontiguousarray(apply_orientation(slices, ornt_transform(shown, io_orientation(affine))))


def _orientation(affine: np.ndarray, plane: str, view: str) -> np.ndarray:
    from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

    return ornt_transform(io_orientation(affine), axcodes2ornt(tuple(_FRAMES[plane, view])))


def _read_nifti(path: Path) -> tuple[np.ndarray, np.ndarray, Any]:
    """Values float32 `[X, Y, Z]`, affine and header."""
    try:
        import nibabel
    except ImportError as error:
        raise MissingPackageError("NIfTI needs nibabel: pip install 'reclmis[medical]'.") from error
    if not path.is_file():
        raise UnreadableImageError(f"{path} is missing; give a NIfTI file.")
    if path.stat().st_size == 0:
        raise UnreadableImageError(f"{path} is empty (0 bytes); copy it again.")
    try:
        image: Any = nibabel.load(path)
        shape = image.shape
        _check_shape(shape, path)
        values = np.asarray(image.dataobj, dtype=np.float32).reshape(shape[:3])
        affine = np.asarray(image.affine, dtype=np.float64)
    except UnreadableImageError:
        raise
    except Exception as error:
        # gzip, zlib, the header's checks and short files each raise errors of their own.
        raise UnreadableImageError(
            f"{path} is damaged ({type(error).__name__}: {one_line(error)}); copy it again."
        ) from error
    if not np.isfinite(values).all():
        raise UnreadableImageError(
            f"{path} holds {(~np.isfinite(values)).sum()} voxels that are nan or infinite; replace them."
        )
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise UnreadableImageError(f"{path} has an affine that places nothing; set its sform or qform.")
    return values, affine, image.header


def _check_shape(shape: Sequence[int], path: Path) -> None:
    if len(shape) < 3 or any(side != 1 for side in shape[3:]):
        raise UnreadableImageError(
            f"{path} has shape {tuple(shape)}; a volume has three dimensions. Save one time point."
        )
    # The header alone says so; what it announces is refused before anything is unpacked.
    if not 0 < int(np.prod([int(side) for side in shape[:3]], dtype=object)) <= MAX_VOXELS:
        raise UnreadableImageError(
            f"{path} announces {tuple(shape)} voxels, and at most {MAX_VOXELS} are read. Cut it into parts."
        )


def _nifti_grey(values: np.ndarray, window: Window | None, path: Path) -> np.ndarray:
    if window is not None:
        return apply_window(values, window)
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 255:
        raise ValueError(
            f"{path} holds values from {low:g} to {high:g}, and NIfTI does not say what they are; give a window: "
            f"{', '.join(WINDOWS)}, (level, width), or {FULL!r} for this range."
        )
    return np.rint(values).astype(np.uint8)


def _read_frames(path: Path, window: Window | None) -> tuple[np.ndarray, np.ndarray]:
    """A DICOM file of several frames. Without places of its frames, they count as axial slices of 1 mm, as stored."""
    header = read_header(path, str(path))
    if is_colour(header):
        raise UnreadableImageError(f"{path} has colours; a volume is grey. Read it with `read_dicom`.")
    values, padding = modality_values(header, str(path))
    grey = render(
        header, values, padding, window if window is not None else _stated(frame_header(header, 0)), str(path)
    )
    places = [_place(frame_header(header, number)) for number in range(len(values))]
    if all(place is not None for place in places) and len(places) > 1:
        order, affine = _arranged([place for place in places if place is not None], str(path))
        return _stacked(grey[order]), affine
    return _stacked(grey), np.diag([-1.0, -1.0, 1.0, 1.0])


def _read_series(folder: Path, window: Window | None) -> tuple[np.ndarray, np.ndarray]:
    files = dicom_files(folder)
    if not files:
        raise UnreadableImageError(f"{folder} holds no DICOM file.")
    headers = [header_of(path) for path in files]
    _check_one_series(folder, files, headers)
    if len(files) == 1:
        return _read_frames(files[0], window)
    places = [_place(header) for header in headers]
    lost = [path.name for path, place in zip(files, places, strict=True) if place is None]
    if lost:
        raise UnreadableImageError(f"{folder}: {', '.join(lost[:5])} do not say where they lie (ImagePositionPatient).")
    order, affine = _arranged(
        [place for place in places if place is not None], str(folder), [path.name for path in files]
    )
    values, paddings, first = [], [], None
    for number in order:
        header = read_header(files[number], str(files[number]))
        first = header if first is None else first
        value, padding = modality_values(header, str(files[number]))
        values.append(value[0])
        paddings.append(np.zeros(value[0].shape, dtype=bool) if padding is None else padding[0])
    assert first is not None
    # One window for all, the first slice's, as each slice on its own would flicker.
    whole = render(
        first, np.stack(values), np.stack(paddings), window if window is not None else _stated(first), str(folder)
    )
    return _stacked(whole), affine


def _stated(header: Any) -> Window | None:
    """The window for slices that state none: the range of all of them together, unless it is a CT."""
    states = "VOILUTSequence" in header or "WindowCenter" in header
    return None if states or header.get("Modality") == "CT" else FULL


def _check_one_series(folder: Path, files: Sequence[Path], headers: Sequence[Any]) -> None:
    for key, what in (("SeriesInstanceUID", "series"), ("Rows", "numbers of rows"), ("Columns", "numbers of columns")):
        found = sorted({str(header.get(key)) for header in headers})
        if len(found) > 1:
            raise UnreadableImageError(
                f"{folder} holds {len(found)} {what} ({', '.join(found[:4])}); give each series a folder of its own."
            )
    framed = [
        path.name for path, header in zip(files, headers, strict=True) if int(header.get("NumberOfFrames") or 1) > 1
    ]
    if framed and len(files) > 1:
        raise UnreadableImageError(
            f"{folder}: {', '.join(framed[:4])} have several frames each; give one such file alone."
        )


@dataclass(frozen=True)
class _Place:
    """Where a slice lies, in DICOM's coordinates (LPS+): its first pixel, and steps to the next column and row."""

    origin: np.ndarray
    column: np.ndarray
    row: np.ndarray


def _place(header: Any) -> _Place | None:
    try:
        origin = np.array([float(value) for value in header.ImagePositionPatient])
        cosines = np.array([float(value) for value in header.ImageOrientationPatient])
        rows, columns = (float(value) for value in header.PixelSpacing)
    except (AttributeError, TypeError, ValueError):
        return None
    if origin.shape != (3,) or cosines.shape != (6,) or not (rows > 0 and columns > 0):
        return None
    return _Place(origin, cosines[:3] * columns, cosines[3:] * rows)


def _arranged(
    places: Sequence[_Place], source: str, names: Sequence[str] | None = None
) -> tuple[list[int], np.ndarray]:
    """The order of slices along their normal, and the affine of the array [column, row, slice] to RAS+.

    Raises:
        UnreadableImageError: slices of several directions, two at one place, or uneven distances.
    """
    names = [f"frame {number + 1}" for number in range(len(places))] if names is None else names
    first = places[0]
    tilted = [name for name, place in zip(names, places, strict=True)
              if np.abs(np.r_[place.column - first.column, place.row - first.row]).max() > 1e-3]  # fmt: skip
    if tilted:
        raise UnreadableImageError(
            f"{source}: {', '.join(tilted[:4])} lie in another direction than {names[0]}; is it a scout?"
        )
    normal = np.cross(first.column, first.row)
    normal /= np.linalg.norm(normal)
    heights = np.array([place.origin @ normal for place in places])
    order = np.argsort(heights, kind="stable")
    gaps = np.diff(heights[order])
    usual = float(np.median(gaps))
    if usual <= 1e-3:
        raise UnreadableImageError(
            f"{source}: several slices lie at one place, {heights[order][0]:g} mm; keep one series."
        )
    uneven = np.flatnonzero(np.abs(gaps - usual) > _SPACING_TOLERANCE * usual)
    if len(uneven):
        after = int(uneven[0])
        raise UnreadableImageError(
            f"{source}: slices are {usual:g} mm apart, but {gaps[after]:g} mm between {names[order[after]]} and "
            f"{names[order[after + 1]]}; is one missing?"
        )
    affine = np.eye(4)
    step = (places[order[-1]].origin - places[order[0]].origin) / (len(places) - 1)
    affine[:3] = np.column_stack([first.column, first.row, step, places[order[0]].origin])
    # LPS+ to RAS+.
    return order.tolist(), np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _stacked(frames: np.ndarray) -> np.ndarray:
    """Frames `[N, H, W]` as an array [column, row, slice]."""
    return np.transpose(frames, (2, 1, 0))
