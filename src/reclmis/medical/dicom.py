"""DICOM files -> 8-bit pixels, as a viewer would show them. Decoding and lookup tables are pydicom's."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..errors import MissingPackageError, UnreadableImageError, one_line
from .windows import FULL, Window, apply_window, resolve_window

if TYPE_CHECKING:
    from pydicom import Dataset

# The voxels of the largest file that is opened: 2 GB of 16 bits.
MAX_VOXELS = 2**30
# Bytes that a deflated file is inflated to: its header, which says how large it is, is deflated with the rest.
MAX_INFLATED = 2**27
_DECODERS = "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"


def read_dicom(file: str | Path | BytesIO, window: Window | None = None, *, name: str = "") -> np.ndarray:
    """The frames of a file, uint8 `[N, H, W]`, or `[N, H, W, 3]` of colour images.

    Stored values become those of the modality (rescale slope and intercept, or its lookup table; Hounsfield units in CT),
    then grey by the window. MONOCHROME1, where low is white, is inverted; padding is black in either case.

    Args:
        file: path, or content.
        window: a name of `WINDOWS`, (level, width) in the modality's units, or `"full"`. By default the file's own: its
            lookup table or its first window (linear, exact or sigmoid); without one, the range of values present, but for
            CT, where that shows nothing and a window must be given. Colour images have none.
        name: what errors call it, in place of the path.

    Raises:
        UnreadableImageError: missing, empty, damaged, no DICOM, without pixels, too large, or compressed in a way for
            which no decoder is installed.
        ValueError: a CT without a window, or a window that is none.
        MissingPackageError: pydicom is not installed.
    """
    name = name or str(file)
    return grey_or_colours(read_header(file, name), window, name)


def grey_or_colours(header: "Dataset", window: Window | None, name: str) -> np.ndarray:
    """The frames of a file whose header was read; see [`read_dicom`]."""
    if is_colour(header):
        if window is not None:
            raise ValueError(f"{name} has colours; a window is for grey values. Leave it out.")
        return _coloured(header, name)
    values, padding = modality_values(header, name)
    return render(header, values, padding, window, name)


def header_of(path: str | Path) -> "Dataset":
    """A file's header, without its pixels.

    Raises:
        UnreadableImageError, MissingPackageError: as [`read_dicom`].
    """
    return read_header(path, str(path), stop_before_pixels=True)


def is_colour(header: "Dataset") -> bool:
    return int(header.get("SamplesPerPixel", 1)) > 1 or header.get("PhotometricInterpretation") == "PALETTE COLOR"


def modality_values(header: "Dataset", name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """The modality's values, float32 `[N, H, W]`, and where padding lies, bool `[N, H, W]` or `None`."""
    from pydicom.pixels import apply_modality_lut

    stored = _frames(header, name)
    padding = _padding(header, stored)
    frames = []
    for number, frame in enumerate(stored):
        with _damage(name):
            frames.append(np.asarray(apply_modality_lut(frame, frame_header(header, number)), dtype=np.float32))
    values = np.stack(frames)
    if not np.isfinite(values).all():
        raise UnreadableImageError(f"{name} holds values that are nan or infinite; export it again.")
    return values, padding


def render(
    header: "Dataset", values: np.ndarray, padding: np.ndarray | None, window: Window | None, name: str
) -> np.ndarray:
    """The modality's values as grey, uint8 `[N, H, W]`; see [`read_dicom`]."""
    if window is not None:
        grey = apply_window(values, _range(values, padding) if window == FULL else window)
    else:
        grey = np.stack([_as_stated(frame_header(header, number), frame, _padding_of(padding, number), name)
                         for number, frame in enumerate(values)])  # fmt: skip
    if header.get("PhotometricInterpretation") == "MONOCHROME1":
        grey = 255 - grey
    if padding is not None:
        grey[padding] = 0
    return grey


def frame_header(header: "Dataset", number: int) -> "Dataset":
    """The header as it holds for one frame: enhanced files keep rescaling, window and place in groups per frame."""
    groups = [sequence[min(number, len(sequence) - 1)] for key in
              ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
              if (sequence := header.get(key))]  # fmt: skip
    if not groups:
        return header
    from pydicom import Dataset

    own = Dataset()
    for key in ("BitsStored", "PixelRepresentation", "PhotometricInterpretation", "Modality", *_GROUPED):
        if key in header:
            setattr(own, key, header[key].value)
    for group in groups:
        for macro in _MACROS:
            for key in _GROUPED if group.get(macro) else ():
                if key in group[macro].value[0]:
                    setattr(own, key, group[macro].value[0][key].value)
    return own


_MACROS = (
    "PixelValueTransformationSequence", "FrameVOILUTSequence", "PixelMeasuresSequence", "PlanePositionSequence",
    "PlaneOrientationSequence",
)  # fmt: skip
_GROUPED = (
    "RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "VOILUTFunction", "PixelSpacing",
    "ImagePositionPatient", "ImageOrientationPatient",
)  # fmt: skip


def _as_stated(header: "Dataset", values: np.ndarray, padding: np.ndarray | None, name: str) -> np.ndarray:
    """Grey values by the file's own lookup table or window."""
    from pydicom.pixels import apply_voi_lut

    table = header.get("VOILUTSequence")
    if table:
        with _damage(name):
            top = 2 ** int(table[0].LUTDescriptor[2]) - 1
            shown = apply_voi_lut(values.astype(np.int64), header)
        return np.rint(np.clip(shown / top, 0, 1) * 255).astype(np.uint8)
    if "WindowCenter" in header and "WindowWidth" in header:
        with _damage(name):
            shown = apply_voi_lut(values, header)
            # The output spans what the bits could hold; the window's far ends tell from where to where.
            low, high = apply_voi_lut(np.array([-1e12, 1e12]), header)
        if not high > low:
            raise UnreadableImageError(f"{name} has a window without width; give one.")
        return np.rint(np.clip((shown - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    if header.get("Modality") == "CT":
        raise ValueError(
            f"{name} is a CT that states no window, and its values go from {values.min():g} to {values.max():g}; give a "
            "window such as 'lung' or (level, width)."
        )
    return apply_window(values, _range(values, padding))


def _range(values: np.ndarray, padding: np.ndarray | None) -> tuple[float, float]:
    """Level and width from the least to the largest value that is no padding."""
    return resolve_window(FULL, values if padding is None or padding.all() else values[~padding])


def _padding_of(padding: np.ndarray | None, number: int) -> np.ndarray | None:
    return None if padding is None else padding[number]


def read_header(file: str | Path | BytesIO, name: str, stop_before_pixels: bool = False) -> "Dataset":
    """A file, its pixels not yet decoded. For the errors see [`read_dicom`]."""
    try:
        from pydicom import dcmread
        from pydicom.errors import InvalidDicomError
    except ImportError as error:
        raise MissingPackageError("DICOM needs pydicom: pip install 'reclmis[medical]'.") from error
    if not isinstance(file, BytesIO) and not Path(file).is_file():
        raise UnreadableImageError(f"{name} is missing; give a DICOM file.")
    try:
        header = dcmread(_inflated(file, name), stop_before_pixels=stop_before_pixels)
    except UnreadableImageError:
        raise
    except InvalidDicomError as error:
        raise UnreadableImageError(f"{name} is no DICOM file; convert it, or give another.") from error
    except Exception as error:
        # The reader raises whatever a broken byte leads it to.
        raise UnreadableImageError(f"{name} is damaged ({type(error).__name__}: {error}); copy it again.") from error
    with _damage(name):
        _check_extent(header, name, stop_before_pixels)
    return header


def _inflated(file: str | Path | BytesIO, name: str) -> str | Path | BytesIO:
    """The file, or what a deflated one inflates to, as a file. pydicom would inflate it without a limit."""
    from pydicom.filereader import read_dataset, read_preamble
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    with nullcontext(file) if isinstance(file, BytesIO) else open(file, "rb") as opened:
        start = opened.tell()
        read_preamble(opened, force=False)
        meta = read_dataset(opened, False, True, stop_when=lambda tag, kind, length: tag >> 16 != 2)
        for tag in list(meta.keys())[:1]:
            # Where this fails pydicom reads on in another way, and could find another syntax; such a file is damaged.
            meta[tag]
        if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            opened.seek(start)
            return file
        inflating = zlib.decompressobj(-zlib.MAX_WBITS)
        content = inflating.decompress(opened.read(), MAX_INFLATED + 1)
    if len(content) > MAX_INFLATED:
        raise UnreadableImageError(
            f"{name} is deflated and would unpack to more than {MAX_INFLATED / 1e6:.0f} MB; save it without deflation, as "
            "Explicit VR Little Endian."
        )
    if not inflating.eof:
        raise UnreadableImageError(f"{name} is damaged (what is deflated ends too early); copy it again.")
    return BytesIO(_PLAIN + content)


# What a file begins with whose data set is not deflated: preamble, mark, and the transfer syntax.
_PLAIN = bytes(128) + b"DICM" + b"\x02\x00\x10\x00UI\x14\x00" + b"1.2.840.10008.1.2.1\x00"


def _check_extent(header: "Dataset", name: str, stop_before_pixels: bool) -> None:
    """Sizes are refused before memory is asked for; the file may say anything."""
    if not stop_before_pixels and not any(
        key in header for key in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
    ):
        raise UnreadableImageError(f"{name} holds no pixels (it is a {header.get('Modality', 'DICOM')} object).")
    rows, columns = int(header.get("Rows") or 0), int(header.get("Columns") or 0)
    frames = int(header.get("NumberOfFrames") or 1)
    if not stop_before_pixels and not (rows > 0 and columns > 0 and frames > 0):
        raise UnreadableImageError(
            f"{name} says that it has {frames} frames of {rows} x {columns} pixels; copy it again."
        )
    limit = Image.MAX_IMAGE_PIXELS
    if (limit is not None and rows * columns > limit) or rows * columns * frames > MAX_VOXELS:
        raise UnreadableImageError(
            f"{name} would unpack to {frames} frames of {rows} x {columns} pixels, more than {limit} each or {MAX_VOXELS} "
            "in all. Cut it into parts."
        )


def _frames(header: "Dataset", name: str) -> np.ndarray:
    """Stored values, `[N, H, W]` or `[N, H, W, 3]`, colours as RGB."""
    syntax = getattr(getattr(header, "file_meta", None), "TransferSyntaxUID", None)
    frames = int(header.get("NumberOfFrames") or 1)
    with _damage(name):
        if syntax is not None and syntax.is_encapsulated:
            _check_frames(header, frames, name)
    try:
        stored = np.asarray(header.pixel_array)
    except Exception as error:
        if "missing dependencies" in str(error) or isinstance(error, ImportError):
            kind = getattr(syntax, "name", syntax)
            raise UnreadableImageError(
                f"{name} is compressed as {kind}, for which no decoder is installed: {_DECODERS}"
            ) from error
        raise UnreadableImageError(
            f"{name} is damaged ({type(error).__name__}: {one_line(error)}); copy it again."
        ) from error
    shape = (frames, int(header.Rows), int(header.Columns))
    expected = shape if int(header.get("SamplesPerPixel", 1)) == 1 else (*shape, 3)
    if stored.size != np.prod(expected):
        raise UnreadableImageError(
            f"{name} holds pixels of shape {stored.shape} where {expected} is announced; copy it again."
        )
    return stored.reshape(expected)


def _check_frames(header: "Dataset", frames: int, name: str) -> None:
    """Compressed frames would all be decoded, whatever the header says of their number."""
    from pydicom.encaps import generate_frames

    tables = [header.get(f"ExtendedOffsetTable{part}") for part in ("", "Lengths")]
    extended = (tables[0], tables[1]) if all(tables) else None
    found = generate_frames(header.PixelData, number_of_frames=frames, extended_offsets=extended)
    if sum(1 for _ in islice(found, frames + 1)) > frames:
        raise UnreadableImageError(f"{name} holds more than the {frames} frame(s) that it announces; copy it again.")


def _padding(header: "Dataset", stored: np.ndarray) -> np.ndarray | None:
    """Pixels that the scanner filled in: one stored value, or a range of them."""
    value = header.get("PixelPaddingValue")
    if value is None:
        return None
    limit = header.get("PixelPaddingRangeLimit")
    low, high = sorted((int(value), int(value if limit is None else limit)))
    padding = (stored >= low) & (stored <= high)
    return padding if padding.any() else None


def _coloured(header: "Dataset", name: str) -> np.ndarray:
    from pydicom.pixels import apply_color_lut

    pixels = _frames(header, name)
    if header.get("PhotometricInterpretation") == "PALETTE COLOR":
        with _damage(name):
            pixels = apply_color_lut(pixels, header)
            bits = int(header.RedPaletteColorLookupTableDescriptor[2])
    else:
        bits = int(header.get("BitsStored", 8))
    if pixels.shape[-1] != 3 or bits > 16:
        raise UnreadableImageError(f"{name} has pixels of shape {pixels.shape} with {bits} bits; export it as RGB.")
    return np.rint(pixels.astype(np.float32) * (255 / (2**bits - 1))).clip(0, 255).astype(np.uint8)


@contextmanager
def _damage(name: str) -> Iterator[None]:
    """Whatever a value of the header that makes no sense leads to, told as damage of the file."""
    try:
        yield
    except UnreadableImageError:
        raise
    except Exception as error:
        raise UnreadableImageError(
            f"{name} has a header that makes no sense ({type(error).__name__}: {one_line(error)}); copy it again."
        ) from error
