"""Images that show the same picture at another size, crop or brightness."""

from collections.abc import Iterator

import numpy as np
from PIL import Image
from scipy.fft import dctn

_SIDE = 16
BITS = _SIDE**2
# Of 256 bits. In 1500 images of QaTa-COV19, the seven pairs up to here are all one exposure, sharpened, cropped or scanned
# again; the first pair of different people differs in 56 bits, and half of all pairs in 128.
THRESHOLD = 50
_BLOCK = 1024


def perceptual_hash(image: Image.Image) -> np.ndarray:
    """256 bits that stay nearly the same under scaling, compression and brightness, bool `[256]`.

    The lowest 16 x 16 cosine frequencies of the grey image at 64 x 64, each against their median (known as pHash). An
    image of one value has no frequencies: all its bits are 0.
    """
    grey = np.asarray(image.convert("L").resize((4 * _SIDE, 4 * _SIDE), Image.Resampling.LANCZOS), dtype=np.float64)
    if grey.min() == grey.max():
        return np.zeros(BITS, dtype=bool)
    low = dctn(grey, norm="ortho")[:_SIDE, :_SIDE]
    return (low > np.median(low)).ravel()


def near_pairs(hashes: np.ndarray, threshold: int = THRESHOLD) -> Iterator[tuple[int, int, int]]:
    """Pairs (i, j, bits that differ) with i < j and at most `threshold` bits, of bool `[N, 256]`.

    All pairs are looked at, as a matrix product: 100 000 images take about a minute on two cores. Images of one value
    are near to nothing.

    Raises:
        ValueError: a threshold that is no number of bits.
    """
    if not 0 <= threshold <= BITS:
        raise ValueError(f"`threshold` counts bits that differ, 0 to {BITS}, got {threshold}.")
    signs = np.where(hashes, np.float32(1), np.float32(-1))
    blank = np.asarray(~hashes.any(axis=1))
    for first in range(0, len(signs), _BLOCK):
        rows = signs[first : first + _BLOCK]
        for second in range(first, len(signs), _BLOCK):
            distance = (BITS - rows @ signs[second : second + _BLOCK].T) / 2
            for i, j in np.argwhere(distance <= threshold).tolist():
                if first + i < second + j and not (blank[first + i] or blank[second + j]):
                    yield first + i, second + j, int(distance[i, j])
