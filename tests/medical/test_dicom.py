import io
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian

from reclmis.images import UnreadableImageError, read_image
from reclmis.medical import is_dicom, read_dicom
from reclmis.medical.dicom import header_of
from tests.medical.conftest import write_dicom

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)


def test_without_a_window_the_values_present_fill_the_range(tmp_path):
    grey = read_dicom(write_dicom(tmp_path / "a.dcm", RAMP // 4 + 100, bits=12))
    assert grey.shape == (1, 64, 64) and grey.dtype == np.uint8
    np.testing.assert_array_equal(grey[0], np.rint((RAMP // 4) / 1023 * 255))


def test_twelve_of_sixteen_bits_do_not_come_out_dark(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", RAMP, bits=12)
    image = read_image(path)
    assert (image.mode, image.size) == ("RGB", (64, 64))
    assert np.asarray(image).max() == 255 and abs(np.asarray(image).mean() - 127.5) < 1


def test_the_files_window_by_hand(tmp_path):
    # LINEAR of the standard (PS3.3 C.11.2.1.2.1): centre 1000.5 and width 201 run from 900 to 1100.
    path = write_dicom(tmp_path / "a.dcm", RAMP, bits=12, WindowCenter=1000.5, WindowWidth=201)
    values = RAMP.astype(float)
    expected = np.rint(np.clip((values - 1000) / 200 + 0.5, 0, 1) * 255)
    np.testing.assert_allclose(read_dicom(path)[0], expected, atol=1)
    assert (read_dicom(path)[0][values <= 900] == 0).all() and (read_dicom(path)[0][values > 1100] == 255).all()


@pytest.mark.parametrize("function", ["LINEAR_EXACT", "SIGMOID"])
def test_other_window_functions(tmp_path, function):
    path = write_dicom(tmp_path / "a.dcm", RAMP, bits=12, WindowCenter=1000, WindowWidth=200, VOILUTFunction=function)
    values = RAMP.astype(float)
    share = (values - 1000) / 200
    expected = 1 / (1 + np.exp(-4 * share)) if function == "SIGMOID" else np.clip(share + 0.5, 0, 1)
    np.testing.assert_allclose(read_dicom(path)[0], expected * 255, atol=1)


def test_the_first_of_several_windows(tmp_path):
    both = read_dicom(write_dicom(tmp_path / "a.dcm", RAMP, bits=12, WindowCenter=[1000, 50], WindowWidth=[200, 10]))
    one = read_dicom(write_dicom(tmp_path / "b.dcm", RAMP, bits=12, WindowCenter=1000, WindowWidth=200))
    np.testing.assert_array_equal(both, one)


CT = {"Modality": "CT", "RescaleSlope": 2, "RescaleIntercept": -1024}


@pytest.mark.parametrize(
    ("window", "low", "high"), [("lung", -1350, 150), ((-200, 400), -400, 0), ("full", -1024, 7166)]
)
def test_rescaled_values_meet_the_window_asked_for(tmp_path, window, low, high):
    path = write_dicom(tmp_path / "a.dcm", RAMP, bits=12, **CT)
    hounsfield = RAMP * 2.0 - 1024
    expected = np.clip((hounsfield - low) / (high - low), 0, 1) * 255
    np.testing.assert_allclose(read_dicom(path, window)[0], expected, atol=1)


def test_a_ct_without_a_window_asks_for_one(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", RAMP, bits=12, **CT)
    with pytest.raises(ValueError, match=r"states no window.*-1024 to 7166.*'lung'"):
        read_dicom(path)
    with pytest.raises(ValueError, match="No window 'lungs'; there are lung"):
        read_dicom(path, "lungs")
    with pytest.raises(ValueError, match="width above 0"):
        read_dicom(path, (40, 0))


def test_signed_values(tmp_path):
    signed = (RAMP.astype(np.int32) - 2048).astype(np.int16)
    path = write_dicom(
        tmp_path / "a.dcm", signed, bits=16, WindowCenter=0, WindowWidth=1000, VOILUTFunction="LINEAR_EXACT"
    )
    np.testing.assert_allclose(read_dicom(path)[0], np.clip(signed / 1000 + 0.5, 0, 1) * 255, atol=1)


@pytest.mark.parametrize("tags", [{}, {"WindowCenter": 1000, "WindowWidth": 800}])
def test_monochrome1_is_the_negative(tmp_path, tags):
    straight = read_dicom(write_dicom(tmp_path / "a.dcm", RAMP, bits=12, **tags))
    inverted = read_dicom(write_dicom(tmp_path / "b.dcm", RAMP, bits=12, photometric="MONOCHROME1", **tags))
    np.testing.assert_array_equal(inverted, 255 - straight)
    assert inverted[0, 0, 0] == 255


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_does_not_stretch_the_range(tmp_path, photometric):
    stored = RAMP // 8 + 1000
    stored[:4] = 0
    path = write_dicom(tmp_path / "a.dcm", stored, bits=12, photometric=photometric, PixelPaddingValue=0)
    grey = read_dicom(path)[0]
    assert not grey[:4].any()
    assert (grey[4:].min(), grey[4:].max()) == (0, 255)
    stored[4:6] = 7
    ranged = write_dicom(tmp_path / "b.dcm", stored, bits=12, photometric=photometric, PixelPaddingValue=0,
                         PixelPaddingRangeLimit=10)  # fmt: skip
    assert not read_dicom(ranged)[0][:6].any()


def test_lookup_tables(tmp_path):
    def table(values, bits):
        item = Dataset()
        item.LUTDescriptor, item.LUTData = [len(values), 0, bits], values.astype("<u2").tobytes()
        item.add_new(0x00283006, "OW", values.astype("<u2").tobytes())
        return Sequence([item])

    voi = write_dicom(tmp_path / "a.dcm", RAMP, bits=12, VOILUTSequence=table(np.arange(4096)[::-1], 12))
    np.testing.assert_allclose(read_dicom(voi)[0], (4095 - RAMP) / 4095 * 255, atol=1)
    modality = write_dicom(
        tmp_path / "b.dcm", RAMP, bits=12, ModalityLUTSequence=table(np.arange(4096) ** 2 // 256, 16)
    )
    squares = (RAMP.astype(int) ** 2 // 256).astype(float)
    np.testing.assert_allclose(read_dicom(modality)[0], squares / squares.max() * 255, atol=1)


def test_colours(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    path = write_dicom(tmp_path / "a.dcm", pixels, bits=8, photometric="RGB")
    np.testing.assert_array_equal(read_dicom(path)[0], pixels)
    np.testing.assert_array_equal(np.asarray(read_image(path)), pixels)
    with pytest.raises(ValueError, match="colours; a window is for grey"):
        read_dicom(path, "lung")


def test_a_palette(tmp_path):
    indices = np.arange(16, dtype=np.uint8).reshape(4, 4)
    tags = {}
    for colour, factor in (("Red", 10), ("Green", 5), ("Blue", 1)):
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = [16, 0, 16]
        tags[f"{colour}PaletteColorLookupTableData"] = (np.arange(16) * factor * 257).astype("<u2").tobytes()
    path = write_dicom(tmp_path / "a.dcm", indices, bits=8, photometric="PALETTE COLOR", **tags)
    np.testing.assert_array_equal(read_dicom(path)[0], indices[..., None] * np.array([10, 5, 1]))


def test_frames(tmp_path):
    stack = np.stack([RAMP, RAMP[::-1], RAMP // 2])
    path = write_dicom(tmp_path / "a.dcm", stack, bits=12, WindowCenter=2048, WindowWidth=4096)
    frames = read_dicom(path)
    assert frames.shape == (3, 64, 64)
    np.testing.assert_array_equal(frames[1], frames[0][::-1])
    with pytest.raises(UnreadableImageError, match="3 frames; read it with"):
        read_image(path)


def test_recognised_by_content_and_read_from_bytes(tmp_path):
    path = write_dicom(tmp_path / "IM0001", RAMP, bits=12)
    assert is_dicom(path) and not is_dicom(tmp_path) and not is_dicom(tmp_path / "none")
    np.testing.assert_array_equal(read_dicom(io.BytesIO(path.read_bytes()))[0], read_dicom(path)[0])
    np.testing.assert_array_equal(np.asarray(read_image(path.read_bytes())), np.asarray(read_image(path)))
    renamed = tmp_path / "picture.png"
    path.rename(renamed)
    assert read_image(renamed).size == (64, 64)


def test_frames_are_counted_and_measured_before_they_are_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr("reclmis.medical.dicom._frames", lambda header, name: pytest.fail("It was decoded."))
    several = write_dicom(tmp_path / "a.dcm", np.stack([RAMP, RAMP, RAMP]), bits=12)
    with pytest.raises(UnreadableImageError, match="3 frames; read it with"):
        read_image(several)
    one = write_dicom(tmp_path / "b.dcm", RAMP, bits=12)
    with pytest.raises(UnreadableImageError, match="64 x 64 pixels, 4096 in all; at most 4095"):
        read_image(one.read_bytes(), max_pixels=4095)


def deflated(path):
    header = dcmread(path)
    header.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    header.save_as(path)
    return path


def test_a_deflated_file_is_read_as_another(tmp_path):
    tags = {"WindowCenter": 1000, "WindowWidth": 800}
    plain = write_dicom(tmp_path / "a.dcm", RAMP, bits=12, **tags)
    small = deflated(write_dicom(tmp_path / "b.dcm", RAMP, bits=12, **tags))
    assert small.read_bytes() != plain.read_bytes() and b"WindowCenter" not in small.read_bytes()
    np.testing.assert_array_equal(read_dicom(small), read_dicom(plain))
    np.testing.assert_array_equal(read_dicom(io.BytesIO(small.read_bytes())), read_dicom(plain))
    assert header_of(small).WindowCenter == 1000 and "PixelData" not in header_of(small)
    small.write_bytes(small.read_bytes()[:-200])
    with pytest.raises(UnreadableImageError, match=r"b\.dcm is damaged"):
        read_dicom(small)


def test_a_deflated_file_is_not_inflated_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr("reclmis.medical.dicom.MAX_INFLATED", 3_000_000)
    path = deflated(write_dicom(tmp_path / "a.dcm", np.zeros((2048, 1024), np.uint16), bits=12))
    assert path.stat().st_size < 20_000
    tracemalloc.start()
    try:
        for read in (read_dicom, header_of, lambda path: read_dicom(io.BytesIO(path.read_bytes()))):
            with pytest.raises(UnreadableImageError, match="would unpack to more than 3 MB; save it without deflation"):
                read(path)
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


def test_a_syntax_is_not_hidden_behind_a_kind_of_value_that_there_is_not(tmp_path):
    """pydicom reads the whole group again in another way then."""
    raw = deflated(write_dicom(tmp_path / "a.dcm", RAMP, bits=12)).read_bytes()
    assert raw[136:138] == b"UL"
    (tmp_path / "a.dcm").write_bytes(raw[:136] + b"ZZ" + raw[138:])
    with pytest.raises(UnreadableImageError, match=r"a\.dcm is damaged"):
        read_dicom(tmp_path / "a.dcm")


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"Rows": 65535, "Columns": 65535}, "more than"),
        ({"NumberOfFrames": 2**30}, "more than"),
        ({"Rows": 128}, "damaged|is announced"),
        ({"Rows": 0}, "frames of 0 x 64"),
        ({"BitsAllocated": 12}, "damaged"),
        ({"PhotometricInterpretation": "MONOCHROME3"}, "damaged|makes no sense"),
        ({"RescaleSlope": float("nan"), "RescaleIntercept": 0}, "nan or infinite|makes no sense"),
        ({"WindowCenter": 5, "WindowWidth": 0}, "makes no sense"),
    ],
)
def test_headers_that_lie(tmp_path, tags, message):
    path = write_dicom(tmp_path / "bad.dcm", RAMP, bits=12, **tags)
    with pytest.raises(UnreadableImageError, match=message) as caught:
        read_dicom(path)
    assert "bad.dcm" in str(caught.value)


def test_no_pixels_no_dicom_and_nothing(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", RAMP, bits=12)
    header = dcmread(path)
    del header.PixelData
    header.save_as(tmp_path / "empty_object.dcm")
    (tmp_path / "text.dcm").write_text("a note, not an image")
    (tmp_path / "zero.dcm").write_bytes(b"")
    for name, message in (
        ("empty_object", "no pixels"),
        ("text", "no DICOM"),
        ("zero", "no DICOM"),
        ("none", "missing"),
    ):
        with pytest.raises(UnreadableImageError, match=message):
            read_dicom(tmp_path / f"{name}.dcm")


def test_a_compression_without_decoder_names_it(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", RAMP, bits=12)
    header = dcmread(path)
    from pydicom.encaps import encapsulate
    from pydicom.uid import HTJ2KLossless

    header.file_meta.TransferSyntaxUID = HTJ2KLossless
    header.PixelData = encapsulate([b"\xff\x4f\xff\x51" + bytes(60)])
    header["PixelData"].VR = "OB"
    header.save_as(path)
    with pytest.raises(UnreadableImageError, match=r"High-Throughput JPEG 2000.*pip install pylibjpeg|damaged"):
        read_dicom(path)


@pytest.mark.parametrize("has_table", [True, False])
def test_compressed_frames_beyond_those_announced_are_not_decoded(tmp_path, has_table, monkeypatch):
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit

    header = dcmread(write_dicom(tmp_path / "a.dcm", (RAMP // 16).astype(np.uint8), bits=8))
    header.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    picture = io.BytesIO()
    Image.fromarray((RAMP // 16).astype(np.uint8)).save(picture, "JPEG")
    header["PixelData"].VR = "OB"
    for frames, announced in ((1, 1), (3, 3), (3, 2)):
        header.PixelData = encapsulate([picture.getvalue()] * frames, has_bot=has_table)
        header.NumberOfFrames = announced
        header.save_as(tmp_path / "a.dcm")
        if frames == announced:
            assert read_dicom(tmp_path / "a.dcm").shape == (frames, 64, 64)
            continue
        monkeypatch.setattr(Dataset, "pixel_array", property(lambda _: pytest.fail("was decoded")))
        with pytest.raises(UnreadableImageError, match=r"more than the 2 frame\(s\) that it announces"):
            read_dicom(tmp_path / "a.dcm")


@pytest.mark.filterwarnings("ignore")
def test_every_cut_is_an_error_that_names_the_file(tmp_path):
    raw = write_dicom(tmp_path / "a.dcm", RAMP, bits=12, WindowCenter=2048, WindowWidth=4096).read_bytes()
    cut = tmp_path / "cut.dcm"
    for length in [*range(132, 700, 37), 1000, len(raw) - 1]:
        cut.write_bytes(raw[:length])
        with pytest.raises(UnreadableImageError, match=r"cut\.dcm"):
            read_dicom(cut)


@pytest.mark.filterwarnings("ignore")  # pydicom warns of each value that breaks a rule
def test_flipped_bits_never_end_otherwise(tmp_path):
    raw = write_dicom(tmp_path / "a.dcm", RAMP, bits=12, WindowCenter=2048, WindowWidth=4096).read_bytes()
    draw, path = np.random.default_rng(0), tmp_path / "flipped.dcm"
    for _ in range(150):
        damaged = bytearray(raw)
        for place in draw.integers(132, 900, 3):
            damaged[place] ^= 1 << int(draw.integers(8))
        path.write_bytes(damaged)
        try:
            assert read_dicom(path).dtype == np.uint8
        except UnreadableImageError as error:
            assert "flipped.dcm" in str(error)
        except ValueError as error:
            assert "states no window" in str(error) or "colours" in str(error)
