import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from reclmis.data import make_sample
from reclmis.data.near_duplicates import THRESHOLD, near_pairs, perceptual_hash


@pytest.fixture(scope="module")
def picture():
    return Image.fromarray(make_sample(0, size=128)["image"])


def as_jpeg(image):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=60)
    return Image.open(file)


SAME = {
    "smaller": lambda image: image.resize((77, 77), Image.Resampling.BICUBIC),
    "compressed": as_jpeg,
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "more contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.8),
    "grey": lambda image: image.convert("L"),
}


@pytest.mark.parametrize("change", SAME)
def test_the_same_picture_stays_near(picture, change):
    differing = (perceptual_hash(picture) != perceptual_hash(SAME[change](picture))).sum()
    assert differing <= THRESHOLD


def test_mirrored_and_inverted_pictures_are_far(picture):
    other = [Image.fromarray(np.asarray(picture)[:, ::-1]), Image.fromarray(255 - np.asarray(picture))]
    for image in other:
        assert (perceptual_hash(picture) != perceptual_hash(image)).sum() > THRESHOLD


def test_pairs_equal_those_found_one_by_one():
    draw = np.random.default_rng(0)
    hashes = draw.random((1500, 256)) < 0.5
    hashes[1400] = hashes[3]
    hashes[1401, :30] = ~hashes[7, :30]
    hashes[1401, 30:] = hashes[7, 30:]
    hashes[20] = hashes[21] = False
    assert sorted(near_pairs(hashes, 30)) == [(3, 1400, 0), (7, 1401, 30)]
    assert list(near_pairs(hashes, 29)) == [(3, 1400, 0)]
    few = hashes[:40]
    expected = [(i, j, int((few[i] != few[j]).sum())) for i in range(40) for j in range(i + 1, 40)]
    assert sorted(near_pairs(few, 120)) == [
        pair for pair in expected if pair[2] <= 120 and not {20, 21} & set(pair[:2])
    ]


def test_blank_images_and_thresholds():
    assert not perceptual_hash(Image.new("RGB", (50, 40), (7, 7, 7))).any()
    with pytest.raises(ValueError, match="0 to 256"):
        list(near_pairs(np.zeros((2, 256), bool), 257))
