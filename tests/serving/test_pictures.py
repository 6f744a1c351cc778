"""What the page is given to show. It needs no browser."""

import numpy as np
import pytest
from PIL import Image

from reclmis.serving import Answer
from reclmis.serving.web import _large_enough, _shown


def answer(size=(64, 48), weights=(1.0, 2.0)):
    """An answer of this width and height, the left half marked."""
    width, height = size
    mask = np.zeros((height, width), np.uint8)
    mask[:, : width // 2] = 1
    words = [(f"word{number}", weight) for number, weight in enumerate(weights)]
    image = Image.new("RGB", size, (90, 90, 90))
    return Answer(image, mask, mask.astype(np.float32), None, np.eye(4, dtype=np.float32) / 4, words, ())


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((64, 48), (512, 384)),
        ((360, 500), (360, 500)),
        ((1, 600), (2, 1200)),
        ((1, 1440), (1, 1440)),
        ((2880, 1440), (1440, 720)),
        ((2880, 10), (1440, 5)),
        ((1, 100_000), (1, 1440)),
    ],
)
def test_pictures_have_a_size_for_the_page(size, shown):
    _, *pictures, _ = _shown(answer(size), 1)
    assert [picture.size for picture in pictures] == [shown] * 3


def test_a_narrow_picture_is_not_enlarged_beyond_the_page():
    assert _large_enough(Image.new("L", (600, 1))).size == (1200, 2)


def test_a_large_mask_is_shrunk_with_its_image():
    message, overlay, mask, *_ = _shown(answer((3000, 2000)), 1)
    pixels = np.asarray(mask)
    assert "50.0 %" in message and overlay.size == mask.size == (1440, 960)
    assert (pixels[:, :720] == 255).all() and not pixels[:, 720:].any()
    classes = np.asarray(_shown(answer((3000, 2000)), 3)[2])
    assert np.unique(classes).tolist() == [0, 127]


@pytest.mark.parametrize(("weights", "scaled"), [((1.0, 2.0), [0.5, 1.0]), ((0.0, 0.0), [0.0, 0.0]), ((), [])])
def test_words_are_scaled_to_the_most_important(weights, scaled):
    words = _shown(answer(weights=weights), 1)[-1]
    assert [weight for _, weight in words] == scaled
