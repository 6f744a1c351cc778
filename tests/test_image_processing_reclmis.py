from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from transformers import AutoImageProcessor

from reclmis import RecLMISImageProcessor

SIZES = [(64, 64), (96, 64), (80, 112), (65, 63), (33, 47), (16, 16)]


def ramp(height, width, channels=3) -> np.ndarray:
    rng = np.random.default_rng(height * 1000 + width)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def unresized(**options) -> RecLMISImageProcessor:
    return RecLMISImageProcessor(do_resize=False, **options)


def outputs(logits) -> SimpleNamespace:
    return SimpleNamespace(logits=torch.as_tensor(logits, dtype=torch.float32))


# Pixels ------------------------------------------------------------------------------------------------------------


def grey_pictures():
    """The same grey ramp in every kind that a scanner or a camera writes."""
    grey = ramp(16, 16, 1)[:, :, 0]
    image = Image.fromarray(grey)
    wide = grey.astype(np.uint16) * 257
    return grey, {
        "L": image,
        "RGB": image.convert("RGB"),
        "RGBA": image.convert("RGBA"),
        "LA": image.convert("LA"),
        "P": image.convert("P"),
        "I;16": Image.fromarray(wide),
        "I": Image.fromarray(wide.astype(np.int32)),
        "F": Image.fromarray(grey.astype(np.float32)),
        "two axes": grey,
        "float in [0, 1]": grey / 255.0,
        "float in [0, 255]": grey.astype(np.float64),
        "uint16": wide,
        "tensor": torch.from_numpy(grey),
        "tensor in [0, 1]": torch.from_numpy(grey / 255.0).float().expand(3, -1, -1),
    }


@pytest.mark.parametrize("kind", list(grey_pictures()[1]))
def test_every_kind_of_picture_gives_the_same_pixels(kind):
    grey, pictures = grey_pictures()
    values = unresized()(pictures[kind], return_tensors="pt").pixel_values
    assert values.shape == (1, 3, 16, 16) and values.dtype == torch.float32
    torch.testing.assert_close(values, torch.from_numpy(grey / 255.0).float().expand(1, 3, -1, -1), rtol=0, atol=1e-6)


def test_one_bit_and_ink():
    black_and_white = Image.fromarray(ramp(16, 16, 1)[:, :, 0] > 99)
    expected = torch.from_numpy(np.array(black_and_white)).float().expand(1, 3, -1, -1)
    assert torch.equal(unresized()(black_and_white, return_tensors="pt").pixel_values, expected)
    colour = Image.fromarray(ramp(16, 16))
    ink = unresized()(colour.convert("CMYK"), return_tensors="pt").pixel_values
    assert torch.equal(ink, unresized()(colour, return_tensors="pt").pixel_values)


def test_a_path_is_read(tmp_path):
    picture = ramp(16, 16)
    Image.fromarray(picture).save(tmp_path / "a.png")
    from_file = unresized()([tmp_path / "a.png", str(tmp_path / "a.png")], return_tensors="pt").pixel_values
    assert torch.equal(from_file, unresized()([picture] * 2, return_tensors="pt").pixel_values)


def test_channel_order_and_normalisation():
    picture = ramp(16, 16)
    plain = unresized()(picture, return_tensors="pt").pixel_values
    assert torch.equal(unresized(channel_order="bgr")(picture, return_tensors="pt").pixel_values, plain.flip(1))
    mean, std = [0.1, 0.2, 0.3], [0.5, 1.0, 2.0]
    normalised = unresized(do_normalize=True, image_mean=mean, image_std=std)(picture, return_tensors="pt").pixel_values
    expected = (plain - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(normalised, expected)


def test_each_image_is_normalised_by_its_own_statistics():
    processor = unresized(normalize_per_image=True, pad_size_divisor=16)
    bright, dark = ramp(16, 24), (ramp(20, 16) // 4).astype(np.uint8)
    pixels = processor([bright, dark], return_tensors="pt").pixel_values
    for values, (height, width) in zip(pixels, (bright.shape[:2], dark.shape[:2]), strict=True):
        content = values[:, :height, :width]
        torch.testing.assert_close(content.mean(dim=(1, 2)), torch.zeros(3), atol=1e-5, rtol=0)
        torch.testing.assert_close(content.std(dim=(1, 2), correction=0), torch.ones(3), atol=1e-5, rtol=0)
        assert values[:, height:].eq(0).all() and values[:, :, width:].eq(0).all()
    # The same picture at half the contrast and another exposure is the same picture.
    doubled = np.stack([np.arange(0, 128, 2, dtype=np.uint8).reshape(8, 8)] * 3, axis=-1)
    pair = unresized(normalize_per_image=True)([doubled, doubled // 2 + 40], return_tensors="pt").pixel_values
    torch.testing.assert_close(pair[0], pair[1], atol=1e-5, rtol=0)
    flat = unresized(normalize_per_image=True)(np.full((8, 8, 3), 90, np.uint8), return_tensors="pt").pixel_values
    assert flat.abs().max() < 1e-3


def test_one_channel():
    grey, pictures = grey_pictures()
    values = unresized(num_channels=1)(pictures["RGB"], return_tensors="pt").pixel_values
    torch.testing.assert_close(values, torch.from_numpy(grey / 255.0).float()[None, None], rtol=0, atol=1e-6)


def test_resizing_is_bilinear():
    picture = ramp(50, 30)
    values = RecLMISImageProcessor(size={"height": 32, "width": 64})(picture, return_tensors="pt").pixel_values
    expected = F.interpolate(
        torch.from_numpy(picture).permute(2, 0, 1)[None].float(), (32, 64), mode="bilinear", antialias=True
    )
    assert values.shape == (1, 3, 32, 64)
    # On 8 bits, each of the two passes rounds.
    torch.testing.assert_close(values * 255, expected, rtol=0, atol=1.1)


def test_batches_and_single_images_agree():
    pictures = [ramp(40, 40), ramp(20, 60)]
    together = RecLMISImageProcessor()(pictures, return_tensors="pt").pixel_values
    alone = [RecLMISImageProcessor()(picture, return_tensors="pt").pixel_values[0] for picture in pictures]
    assert torch.equal(together, torch.stack(alone))
    as_array = RecLMISImageProcessor()(np.stack([pictures[0]] * 2), return_tensors="pt").pixel_values
    assert torch.equal(as_array, torch.stack([alone[0]] * 2))


def test_input_data_format_settles_a_doubtful_shape():
    picture = ramp(16, 16)[:3]  # [3, 16, 3]
    expected = unresized()(picture, return_tensors="pt").pixel_values
    first = np.moveaxis(picture, 2, 0)
    values = unresized()(first, input_data_format="channels_first", return_tensors="pt").pixel_values
    assert torch.equal(values, expected)


# Geometry ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("height, width", SIZES)
def test_padding_is_right_and_bottom_and_comes_off_again(height, width):
    processor, picture = unresized(pad_size_divisor=32), ramp(height, width)
    mask = (picture[:, :, 0] > 127).astype(np.uint8)
    batch = processor(picture, segmentation_maps=mask, return_tensors="pt")
    rows, columns = batch.pixel_values.shape[-2:]
    assert rows % 32 == 0 and columns % 32 == 0 and rows - height < 32 and columns - width < 32
    content = batch.pixel_values[0, :, :height, :width] * 255
    torch.testing.assert_close(content, torch.from_numpy(picture).permute(2, 0, 1).float())
    assert batch.pixel_values[0, :, height:].eq(0).all() and batch.pixel_values[0, :, :, width:].eq(0).all()
    # A network that saw exactly the mask gives exactly the mask back.
    result = processor.post_process_semantic_segmentation(
        outputs(batch.labels[:, None] * 2.0 - 1), target_sizes=[(height, width)]
    )
    assert torch.equal(result[0], torch.from_numpy(mask).long())


@pytest.mark.parametrize("height, width", SIZES)
def test_resized_images_get_their_own_size_back(height, width):
    processor = RecLMISImageProcessor(size={"height": 48, "width": 40})
    batch = processor(ramp(height, width), return_tensors="pt")
    assert batch.pixel_values.shape == (1, 3, 48, 48)  # the width padded to a multiple of 16
    logits = torch.full((1, 1, 48, 48), -1.0)
    logits[:, :, :, 20:40] = 1.0  # right half of the content
    logits[:, :, :, 40:] = -9.0  # padding: must have no say
    result = processor.post_process_semantic_segmentation(outputs(logits), target_sizes=[(height, width)])[0]
    assert result.shape == (height, width) and result.dtype == torch.int64
    right = torch.arange(width) + 0.5 >= width / 2
    assert (result == right.long()).float().mean() > 0.96


def test_a_batch_of_several_sizes_is_padded_to_the_largest():
    pictures = [ramp(20, 40), ramp(33, 17)]
    masks = [picture[:, :, 0] > 127 for picture in pictures]
    batch = unresized()(pictures, segmentation_maps=masks, return_tensors="pt")
    assert batch.pixel_values.shape == (2, 3, 48, 48) and batch.labels.shape == (2, 48, 48)
    assert batch.labels[0, 20:].eq(0).all() and batch.labels[1, :, 17:].eq(0).all()
    results = unresized().post_process_semantic_segmentation(
        outputs(batch.labels[:, None] * 2.0 - 1), target_sizes=[(20, 40), (33, 17)]
    )
    for result, mask in zip(results, masks, strict=True):
        assert torch.equal(result, torch.from_numpy(mask).long())


def test_a_call_with_other_geometry_must_say_so_afterwards():
    processor = RecLMISImageProcessor()
    batch = processor(ramp(300, 200), do_resize=False, return_tensors="pt")
    assert batch.pixel_values.shape == (1, 3, 304, 208)
    logits = outputs(torch.zeros(1, 1, 304, 208))
    with pytest.raises(ValueError, match=r"304 x 208 .* 224 x 224.*`do_resize`"):
        processor.post_process_semantic_segmentation(logits, target_sizes=[(300, 200)])
    result = processor.post_process_semantic_segmentation(logits, target_sizes=[(300, 200)], do_resize=False)
    assert result[0].shape == (300, 200)


# Masks ---------------------------------------------------------------------------------------------------------------


def test_labels_follow_by_nearest_neighbour():
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[:32, :32], mask[32:, 32:] = 1, 3
    for kind in (mask, Image.fromarray(mask), torch.from_numpy(mask), mask.astype(np.float32)):
        labels = RecLMISImageProcessor(size={"height": 32, "width": 32})(
            ramp(64, 64), segmentation_maps=kind, return_tensors="pt"
        ).labels
        assert labels.dtype == torch.int64
        assert torch.equal(labels[0], torch.from_numpy(mask[::2, ::2]).long())
    # Between class 1 and class 3 lies no class 2.
    mask[:, :] = np.where(np.arange(64) < 30, 1, 3)
    uneven = RecLMISImageProcessor(size={"height": 48, "width": 80})
    labels = uneven(ramp(64, 64), segmentation_maps=mask, return_tensors="pt").labels
    assert labels.unique().tolist() == [1, 3]


def test_a_batch_of_masks_may_be_one_array():
    masks = np.ones((2, 64, 64), dtype=np.uint8)
    labels = RecLMISImageProcessor()([ramp(64, 64)] * 2, segmentation_maps=masks, return_tensors="pt").labels
    assert labels.shape == (2, 224, 224) and labels.eq(1).all()


def test_a_mask_must_fit_its_image():
    with pytest.raises(ValueError, match="Image 1 is 64 x 32 pixels, but its mask is 32 x 64"):
        RecLMISImageProcessor()([ramp(8, 8), ramp(64, 32)], segmentation_maps=[np.zeros((8, 8)), np.zeros((32, 64))])
    with pytest.raises(ValueError, match="2 images, but 1 masks"):
        RecLMISImageProcessor()([ramp(8, 8)] * 2, segmentation_maps=np.zeros((8, 8)))
    with pytest.raises(ValueError, match=r"\[H, W\] class indices, got shape \(8, 8, 3\)"):
        RecLMISImageProcessor()(ramp(8, 8), segmentation_maps=[Image.new("RGB", (8, 8))])


def test_values_that_are_no_classes_are_refused():
    picture, mask = ramp(8, 8), np.zeros((8, 8))
    for value in (0.5, -1.0):
        mask[0, 0] = value
        with pytest.raises(ValueError, match="class indices, got values"):
            RecLMISImageProcessor()(picture, segmentation_maps=mask)
    mask[0, 0] = 255
    assert RecLMISImageProcessor()(picture, segmentation_maps=mask)
    for num_labels, highest in ((1, 1), (2, 1), (4, 3)):
        with pytest.raises(ValueError, match=f"value 255, but classes go from 0 to {highest}.*Divide"):
            RecLMISImageProcessor(num_labels=num_labels)(picture, segmentation_maps=mask)


# Logits --------------------------------------------------------------------------------------------------------------


def test_threshold_is_inclusive_and_probabilities_come_on_request():
    logits = outputs([[[[0.0, -0.01, 3.0]]]])
    processor = RecLMISImageProcessor()
    assert processor.post_process_semantic_segmentation(logits)[0].tolist() == [[1, 0, 1]]
    assert processor.post_process_semantic_segmentation(logits, threshold=0.9)[0].tolist() == [[0, 0, 1]]
    probabilities = processor.post_process_semantic_segmentation(logits, return_probabilities=True)[0]
    torch.testing.assert_close(probabilities, logits.logits[0, 0].sigmoid())


def test_several_classes_take_the_largest_after_resizing():
    logits = torch.zeros(2, 3, 16, 16)
    logits[0, 2, :, :8] = 5.0
    logits[1, 1] = 5.0
    processor = RecLMISImageProcessor(size={"height": 16, "width": 16})
    targets = torch.tensor([[32, 32], [9, 5]])
    left, full = processor.post_process_semantic_segmentation(outputs(logits), target_sizes=targets)
    assert left.shape == (32, 32) and left[:, :16].eq(2).all() and left[:, 18:].eq(0).all()
    assert full.shape == (9, 5) and full.eq(1).all()
    scores = processor.post_process_semantic_segmentation(outputs(logits), return_probabilities=True)
    assert scores[0].shape == (3, 16, 16)


def test_as_many_targets_as_predictions():
    two = outputs(torch.zeros(2, 1, 8, 8))
    with pytest.raises(ValueError, match="2 predictions, but 1 target sizes"):
        RecLMISImageProcessor().post_process_semantic_segmentation(two, target_sizes=[(8, 8)])


# Options -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, message",
    [
        ({"channel_order": "gbr"}, "channel_order"),
        ({"pad_size_divisor": 0}, "pad_size_divisor"),
        ({"num_channels": 4}, "num_channels"),
        ({"normalize_per_image": True, "do_normalize": True}, "two ways to normalise"),
        ({"num_channels": 1, "do_normalize": True}, "image_mean.*3 values for 1 channel"),
        ({"size": {"shortest_edge": 224}}, "'height' and 'width'"),
        ({"do_center_crop": True, "crop_size": 100}, "do_center_crop"),
    ],
)
def test_wrong_options_are_named_at_construction_and_in_a_call(options, message):
    with pytest.raises(ValueError, match=message):
        RecLMISImageProcessor(**options)
    with pytest.raises(Exception, match=message):
        RecLMISImageProcessor()(ramp(8, 8), **options)


def test_save_and_load(tmp_path):
    processor = RecLMISImageProcessor(
        channel_order="bgr", size={"height": 40, "width": 48}, pad_size_divisor=32, antialias=False, num_labels=3,
        do_normalize=True, image_mean=[0.1, 0.2, 0.3], image_std=[1.0, 2.0, 3.0],
    )  # fmt: skip
    processor.save_pretrained(tmp_path)
    assert all(file.suffix == ".json" for file in tmp_path.iterdir())
    picture = ramp(50, 60)
    expected = processor(picture, return_tensors="pt").pixel_values
    for loader in (RecLMISImageProcessor, AutoImageProcessor):
        loaded = loader.from_pretrained(tmp_path)
        assert type(loaded) is RecLMISImageProcessor and loaded.to_dict() == processor.to_dict()
        assert torch.equal(loaded(picture, return_tensors="pt").pixel_values, expected)
