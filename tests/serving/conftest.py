import io

import numpy as np
import pytest
from PIL import Image

from reclmis.serving import SegmentationService
from tests.parts import NOTE_TEXT, lively, tiny_model, tiny_processor

NOTES = ["upper left lung", "lower right lung"]


def png(size=(50, 70), seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture(scope="package")
def service():
    return SegmentationService(lively(tiny_model(text_config=NOTE_TEXT)), tiny_processor(NOTES), max_bytes=100_000)
