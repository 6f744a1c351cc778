import numpy as np
import pytest
from PIL import Image

from tests.parts import NOTE_TEXT, lively, tiny_model, tiny_processor

NOTES = ["upper left lung", "lower right lung"]


def picture(height=50, width=70, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture(scope="session")
def model():
    return lively(tiny_model(text_config=NOTE_TEXT))


@pytest.fixture(scope="session")
def processor():
    return tiny_processor(NOTES)
