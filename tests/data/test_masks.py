import numpy as np
import pytest
from PIL import Image

from reclmis.data import read_mask
from reclmis.data.masks import MaskFormat
from reclmis.images import UnreadableImageError

TRUTH = np.zeros((12, 10), np.uint8)
TRUTH[3:7, 2:9] = 1


def palette(colours, indices=TRUTH):
    image = Image.frombytes("P", indices.shape[::-1], indices.tobytes())
    image.putpalette([channel for colour in colours for channel in colour])
    return image


BINARY = {
    "L 0/255": Image.fromarray(TRUTH * 255),
    "L 0/1": Image.fromarray(TRUTH),
    "1": Image.fromarray(TRUTH.astype(bool)),
    "RGB": Image.fromarray(np.repeat(TRUTH[:, :, None] * 255, 3, axis=2)),
    "RGBA": Image.fromarray(TRUTH * 255).convert("RGBA"),
    "LA": Image.fromarray(TRUTH * 255).convert("LA"),
    "I": Image.fromarray(TRUTH.astype(np.int32) * 255),
    "I;16": Image.fromarray(TRUTH.astype(np.uint16) * 65535),
    "F": Image.fromarray(TRUTH.astype(np.float32)),
    "P colour": palette([(0, 0, 0), (200, 30, 30)]),
    "P white first": palette([(255, 255, 255), (0, 0, 0)], 1 - TRUTH),
    "bool array": TRUTH.astype(bool),
    "float array": TRUTH.astype(np.float64),
    "int64 array": TRUTH.astype(np.int64) * 255,
}


@pytest.mark.parametrize("kind", BINARY)
def test_binary_masks_of_every_kind(kind):
    mask = read_mask(BINARY[kind])
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, TRUTH)


@pytest.mark.parametrize("value", [1, 255])
def test_empty_and_full_masks(value):
    assert not read_mask(np.zeros((4, 4), np.uint8)).any()
    assert read_mask(np.full((4, 4), value, np.uint8)).all()


def test_class_indices_from_grey_and_from_a_palette():
    classes = TRUTH * 2
    classes[0] = 1
    np.testing.assert_array_equal(read_mask(Image.fromarray(classes), 3), classes)
    coloured = palette([(0, 0, 0), (255, 0, 0), (0, 255, 0)], classes)
    np.testing.assert_array_equal(read_mask(coloured, 3), classes)


def test_smear_of_lossy_files_is_mended(tmp_path):
    big = np.kron(TRUTH, np.ones((15, 15), np.uint8))
    Image.fromarray(big * 255).save(tmp_path / "mask.jpg", quality=95)
    assert len(np.unique(np.asarray(Image.open(tmp_path / "mask.jpg")))) > 2
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.jpg"), big)


@pytest.mark.parametrize("values", [(0, 1, 2), (0, 128), (0, 1, 255), (0, 3), (0, 254, 255), (0, 2)])
def test_values_of_several_meanings_are_refused_by_name(values):
    mask = np.resize(np.array(values, np.uint8), (6, 6))
    with pytest.raises(ValueError, match=", ".join(map(str, values))) as caught:
        read_mask(Image.fromarray(mask))
    assert "num_labels" in str(caught.value)


@pytest.mark.parametrize(
    ("mask", "num_labels", "message"),
    [
        (np.array([[0, 3]], np.uint8), 3, "0 to 2"),
        (np.array([[0, 255]], np.uint8), 2, "255"),
        (np.array([[0.0, 0.5]]), 1, "fractions"),
        (np.array([[0.0, np.nan]]), 1, "nan"),
        (np.array([[0, -1]]), 2, "-1"),
        (np.zeros((0, 3), np.uint8), 1, "shape"),
        (np.zeros((2, 3, 2), np.uint8), 1, "shape"),
        (np.eye(3, dtype=np.uint8)[None] * 255, 1, "coloured"),
        (Image.new("RGBA", (2, 2), (255, 255, 255, 0)), 1, "transparent"),
        (Image.new("CMYK", (2, 2)), 1, "CMYK"),
        (palette([(0, 0, 99), (200, 30, 30)]), 1, "Index 0"),
        (np.zeros((2, 2), np.uint8), 0, "num_labels"),
    ],
)
def test_masks_that_tell_no_class_are_refused(mask, num_labels, message):
    with pytest.raises(ValueError, match=message):
        read_mask(mask, num_labels)


def test_broken_files_are_named(tmp_path):
    path = tmp_path / "mask.png"
    path.write_bytes(b"no image")
    with pytest.raises(UnreadableImageError, match=r"mask\.png"):
        read_mask(path)


COLOURS = ((0, 0, 0), (200, 30, 30), (30, 30, 200))


def painted(classes):
    return np.array(COLOURS, np.uint8)[classes]


@pytest.mark.parametrize("kind", ["array", "RGB", "RGBA", "P"])
def test_painted_classes(kind, tmp_path):
    classes = TRUTH * 2
    classes[0, :4] = 1
    masks = {"array": painted(classes), "RGB": Image.fromarray(painted(classes)), "P": palette(COLOURS, classes),
             "RGBA": Image.fromarray(painted(classes)).convert("RGBA")}  # fmt: skip
    np.testing.assert_array_equal(MaskFormat(3, COLOURS).read(masks[kind]), classes)
    if kind != "array":
        masks[kind].save(tmp_path / "mask.png")
        np.testing.assert_array_equal(MaskFormat(3, COLOURS).read(tmp_path / "mask.png"), classes)


def test_two_colours_make_a_binary_mask_whatever_they_are():
    white_is_background = ((255, 255, 255), (0, 90, 0))
    pixels = np.array(white_is_background, np.uint8)[TRUTH]
    np.testing.assert_array_equal(MaskFormat(colours=white_is_background).read(pixels), TRUTH)


def test_colours_of_no_class_are_named():
    pixels = painted(TRUTH).copy()
    pixels[0, 0] = (100, 15, 15)
    with pytest.raises(ValueError, match=r"\(100, 15, 15\).*without smoothing"):
        MaskFormat(3, COLOURS).read(pixels)


INSTANCES = TRUTH.astype(np.int32)
INSTANCES[3:5, 2:5], INSTANCES[5:7, 6:9] = 300, 70000


@pytest.mark.parametrize(
    "mask",
    [
        INSTANCES,
        Image.fromarray(INSTANCES),
        Image.fromarray((INSTANCES % 249).astype(np.uint16)),
        palette([(9, 9, 9), *((i, 5, 255 - i) for i in range(1, 256))], (INSTANCES % 249).astype(np.uint8)),
        Image.fromarray(np.stack([INSTANCES % 249, INSTANCES % 7, INSTANCES * 0], axis=2).astype(np.uint8)),
    ],
    ids=["array", "I", "I;16", "P", "RGB"],
)
def test_instances_are_foreground(mask):
    np.testing.assert_array_equal(MaskFormat(instances=True).read(mask), TRUTH)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_labels": 0}, "at least 1"),
        ({"num_labels": 3, "instances": True}, "binary"),
        ({"num_labels": 3, "colours": COLOURS[:2]}, "3 different"),
        ({"num_labels": 3, "colours": (*COLOURS[:2], COLOURS[1])}, "3 different"),
        ({"colours": ((0, 0, 0), (0, 0, 256))}, "0 to 255"),
    ],
)
def test_formats_that_contradict_themselves(settings, message):
    with pytest.raises(ValueError, match=message):
        MaskFormat(**settings)
