import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, TiffImagePlugin

from reclmis.images import UnreadableImageError, open_image, read_image, to_rgb8

GREY = np.array([[0, 51, 102], [153, 204, 255]], dtype=np.uint8)
COLOUR = np.stack([GREY, 255 - GREY, np.full_like(GREY, 7)], axis=2)


def pixels(image) -> np.ndarray:
    converted = to_rgb8(image)
    assert converted.mode == "RGB"
    return np.asarray(converted)


def three(grey) -> np.ndarray:
    return np.repeat(np.asarray(grey)[:, :, None], 3, axis=2)


def palette_image() -> Image.Image:
    image = Image.fromarray(np.array([[0, 1], [2, 1]], dtype=np.uint8)).convert("P")
    image.putdata([0, 1, 2, 1])
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    return image


# PIL ---------------------------------------------------------------------------------------------------------------


def test_grey_and_colour():
    assert (pixels(Image.fromarray(GREY)) == three(GREY)).all()
    assert (pixels(Image.fromarray(COLOUR)) == COLOUR).all()


def test_one_bit_is_black_and_white():
    image = Image.fromarray(GREY > 100).convert("1")
    assert (pixels(image) == three((GREY > 100) * 255)).all()


def test_a_palette_is_looked_up():
    expected = [[[10, 20, 30], [40, 50, 60]], [[70, 80, 90], [40, 50, 60]]]
    assert (pixels(palette_image()) == expected).all()


def test_a_transparent_palette_entry_is_black():
    image = palette_image()
    image.info["transparency"] = 1
    assert (pixels(image) == [[[10, 20, 30], [0, 0, 0]], [[70, 80, 90], [0, 0, 0]]]).all()


@pytest.mark.parametrize("alpha", [0, 51, 255])
def test_transparency_lies_over_black(alpha):
    layer = np.full((2, 3, 1), alpha, dtype=np.uint8)
    over_black = np.rint(COLOUR * (alpha / 255.0))
    assert np.abs(pixels(Image.fromarray(np.concatenate([COLOUR, layer], axis=2))) - over_black).max() <= 1
    grey = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(layer[:, :, 0])])
    assert np.abs(pixels(grey) - three(np.rint(GREY * (alpha / 255.0)))).max() <= 1
    # Arrays take the same path as images.
    assert np.abs(pixels(np.concatenate([COLOUR, layer], axis=2)) - over_black).max() <= 1


def test_premultiplied_modes():
    for mode in ("La", "RGBa"):
        source = Image.fromarray(GREY).convert("LA" if mode == "La" else "RGBA")
        assert (pixels(source.convert(mode)) == three(GREY)).all()


def test_ink_becomes_light():
    ink = np.zeros((2, 2, 4), dtype=np.uint8)
    ink[0, 0, 3] = 255  # black
    ink[0, 1, 0] = 255  # cyan
    assert pixels(Image.fromarray(ink, mode="CMYK")).tolist() == [
        [[0, 0, 0], [0, 255, 255]],
        [[255, 255, 255], [255, 255, 255]],
    ]


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_sixteen_bits_keep_their_greys(mode):
    wide = GREY.astype(np.uint16) * 257
    kinds = {"I;16": np.uint16, "I;16B": ">u2", "I": np.int32}
    image = Image.frombytes(mode, (3, 2), wide.astype(kinds[mode]).tobytes())
    assert (pixels(image) == three(GREY)).all()


def test_a_dark_sixteen_bit_image_stays_dark():
    assert pixels(np.full((2, 2), 200, dtype=np.uint16)).max() == 1
    assert pixels(np.full((2, 2), 200, dtype=">u2")).max() == 1


def test_mode_i_within_eight_bits_is_eight_bits():
    assert (pixels(Image.fromarray(GREY).convert("I")) == three(GREY)).all()


def test_mode_f():
    assert (pixels(Image.fromarray(GREY.astype(np.float32))) == three(GREY)).all()
    assert (pixels(Image.fromarray(GREY.astype(np.float32) / 255)) == three(GREY)).all()


def test_other_colour_spaces_are_converted():
    for mode in ("HSV", "YCbCr"):
        assert np.abs(pixels(Image.fromarray(COLOUR).convert(mode)).astype(int) - COLOUR).max() <= 8


# Arrays and tensors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1, 255])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_scaled_once(scale, dtype):
    assert (pixels((GREY / 255.0 * scale).astype(dtype)) == three(GREY)).all()


def test_rounding_errors_of_floats_are_forgiven():
    image = (GREY / 255.0).astype(np.float32)
    image[1, 2], image[0, 0] = 1.0000002, -1e-7
    assert (pixels(image) == three(GREY)).all()


@pytest.mark.parametrize("low, high", [(-1.0, 1.0), (0.0, 1.5), (0.0, 300.0), (-3.0, 200.0)])
def test_other_floats_are_refused_with_their_range_and_the_mend(low, high):
    with pytest.raises(ValueError, match=rf"from {low:g} to {high:g}.*\[0, 1\] or to \[0, 255\]"):
        to_rgb8(np.array([[low, high]]))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match="1 pixels are nan or infinite"):
        to_rgb8(np.array([[0.5, bad]]))


@pytest.mark.parametrize("low, high", [(-1000, 400), (0, 70000)])
def test_integers_of_no_known_range_are_refused(low, high):
    with pytest.raises(ValueError, match=f"from {low} to {high}"):
        to_rgb8(np.array([[low, high]]))


def test_layouts():
    colour = np.tile(COLOUR, (3, 2, 1))
    first = np.moveaxis(colour, 2, 0)
    for image in (colour, first, torch.from_numpy(colour), torch.from_numpy(first.copy())):
        assert (pixels(image) == colour).all()
    grey = np.tile(GREY, (3, 2))
    for image in (grey, grey[None], grey[:, :, None], torch.from_numpy(grey), grey.astype(np.int64)):
        assert (pixels(image) == three(grey)).all()
    assert (pixels(torch.tensor([[0.0, 0.5, 1.0]], dtype=torch.bfloat16)) == three([[0, 128, 255]])).all()


def test_an_ambiguous_shape_follows_its_kind():
    """[3, 4, 3]: the last axis of an array, the first of a tensor."""
    array = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    assert (pixels(array) == array).all()
    assert (pixels(torch.from_numpy(array)) == np.moveaxis(array, 0, 2)).all()


@pytest.mark.parametrize("shape", [(5,), (5, 6, 7), (2, 3, 4, 5), (0, 4), (0, 4, 3)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="is no image"):
        to_rgb8(np.zeros(shape, dtype=np.uint8))


def test_other_types_are_refused():
    for image in (np.zeros((2, 2), dtype=complex), np.array([["a", "b"]])):
        with pytest.raises(ValueError, match="Pixels of type"):
            to_rgb8(image)


# Files ---------------------------------------------------------------------------------------------------------------


def test_reads_what_was_written(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    assert (np.asarray(read_image(tmp_path / "a.png")) == COLOUR).all()
    Image.fromarray(GREY.astype(np.uint16) * 257).save(tmp_path / "b.png")
    assert (np.asarray(read_image(str(tmp_path / "b.png"))) == three(GREY)).all()
    assert open_image(tmp_path / "b.png").mode.startswith("I")


def test_exif_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    Image.fromarray(COLOUR).save(tmp_path / "turned.png", exif=exif)
    assert (np.asarray(read_image(tmp_path / "turned.png")) == np.rot90(COLOUR, -1)).all()


def broken_files(folder):
    whole = folder / "whole.png"
    Image.effect_noise((64, 64), 60).save(whole)
    noise = whole.read_bytes()
    Image.effect_noise((64, 64), 60).save(folder / "whole.jpg")
    return {
        "empty.png": (b"", "0 bytes"),
        "cut.png": (noise[: len(noise) // 2], "damaged"),
        "cut.jpg": ((folder / "whole.jpg").read_bytes()[:700], "damaged"),
        "text.png": (b"this is no picture", "no image"),
        "bits.png": (noise[:200] + bytes(40) + noise[240:], "damaged"),
        "bomb.png": (_bomb(20000), "20000 x 20000|refused"),
    }


def _bomb(side: int) -> bytes:
    """A valid PNG header that promises `side` x `side` pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("name", ["empty.png", "cut.png", "cut.jpg", "text.png", "bits.png", "bomb.png"])
def test_a_broken_file_is_named_with_its_fault(tmp_path, name):
    content, fault = broken_files(tmp_path)[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableImageError, match=f"{name}.*({fault})"):
        read_image(tmp_path / name)


def test_between_the_warning_and_the_bomb(tmp_path):
    """Pillow merely warns up to twice its limit, and would go on to unpack."""
    (tmp_path / "large.png").write_bytes(_bomb(10000))
    with (
        pytest.warns(Image.DecompressionBombWarning),
        pytest.raises(UnreadableImageError, match=r"large\.png.*10000 x 10000"),
    ):
        read_image(tmp_path / "large.png")


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(UnreadableImageError, match=r"nowhere\.png is missing"):
        read_image(tmp_path / "nowhere.png")
    with pytest.raises(UnreadableImageError, match="is a folder"):
        read_image(tmp_path)


@pytest.mark.parametrize("name", ["scan.tiff", "scan.gif", "scan.png", "scan.webp"])
def test_a_stack_is_not_cut_to_its_first_image(tmp_path, name):
    slices = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    slices[0].save(tmp_path / name, save_all=True, append_images=slices[1:])
    with pytest.raises(UnreadableImageError, match=rf"{name} holds more than one image; save"):
        read_image(tmp_path / name)


def test_pages_are_not_counted(tmp_path, monkeypatch):
    """Pillow reads them all for that: 50 000 take a quarter of a minute."""
    counted = property(lambda image: pytest.fail("The pages were counted."))
    monkeypatch.setattr(TiffImagePlugin.TiffImageFile, "n_frames", counted)
    Image.fromarray(GREY).save(tmp_path / "many.tiff", save_all=True, append_images=[Image.fromarray(GREY)] * 20)
    with pytest.raises(UnreadableImageError, match="more than one image"):
        read_image(tmp_path / "many.tiff")
    Image.fromarray(GREY).save(tmp_path / "one.tiff")
    assert (np.asarray(read_image(tmp_path / "one.tiff")) == three(GREY)).all()


def test_one_image_in_a_format_of_many(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "one.gif")
    image = open_image(tmp_path / "one.gif")
    assert image.format == "GIF" and (np.asarray(to_rgb8(image)) == three(GREY)).all()


def test_a_photograph_with_a_preview_is_its_first_image(tmp_path):
    large, preview = Image.new("RGB", (64, 48), (200, 0, 0)), Image.new("RGB", (16, 12), (0, 0, 200))
    large.save(tmp_path / "photograph.mpo", save_all=True, append_images=[preview])
    image = read_image(tmp_path / "photograph.mpo")
    assert image.size == (64, 48) and image.getpixel((30, 20))[0] > 190


def test_a_lower_limit_of_pixels_holds_before_anything_is_unpacked():
    content = _bomb(300)
    with pytest.raises(
        UnreadableImageError, match="The file has 300 x 300 pixels, 90000 in all; at most 89999 are read"
    ):
        read_image(content, "The file", max_pixels=89_999)
    with pytest.raises(UnreadableImageError, match="damaged"):
        read_image(content, max_pixels=90_000)


def test_values_without_a_meaning_name_the_file(tmp_path):
    Image.fromarray(np.array([[-5.0, 3.0]], dtype=np.float32)).save(tmp_path / "hounsfield.tiff")
    with pytest.raises(UnreadableImageError, match=r"hounsfield\.tiff.*from -5 to 3"):
        read_image(tmp_path / "hounsfield.tiff")
