"""Images as worse machines would have made them, in five named severities each.

Every corruption is a function of the image, a severity and a seed alone. A grey image stays grey: its channels get the same
noise. Lengths go by the image's shorter side, so that a severity means the same at any resolution; the strengths are ours,
chosen so that "slight" is hardly seen and "severe" still shows the organ.
"""

import io
from collections.abc import Callable
from typing import Literal, get_args
from zlib import crc32

import numpy as np
from PIL import Image

Severity = Literal["slight", "mild", "moderate", "strong", "severe"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)

# Side of an image of which strengths in pixels speak.
_REFERENCE_SIDE = 224
# What the brightest pixel lets through of the X-rays: exp(-4), about 2 in 100.
_ATTENUATION = 4.0


def noise(image: np.ndarray, severity: Severity, seed: int) -> np.ndarray:
    """Gaussian noise of a standard deviation of 0.03 to 0.25 of the range of values."""
    deviation = _strength(severity, (0.03, 0.06, 0.10, 0.16, 0.25))
    return _per_value(image, lambda values, draw: values + deviation * draw.standard_normal(values.shape), seed)


def blur(image: np.ndarray, severity: Severity, seed: int) -> np.ndarray:
    """A Gaussian blur of a standard deviation of 0.5 to 4 pixels of an image of 224. The seed changes nothing."""
    from scipy import ndimage

    deviation = _strength(severity, (0.5, 1.0, 1.75, 2.75, 4.0)) * min(image.shape[:2]) / _REFERENCE_SIDE
    return _per_value(image, lambda values, _: ndimage.gaussian_filter(values, (deviation, deviation, 0)), seed)


def low_dose(image: np.ndarray, severity: Severity, seed: int) -> np.ndarray:
    """Fewer X-rays: a pixel lets them through by Beer and Lambert's law, bright ones the least, and a detector counts them
    (Poisson). 3000 down to 60 reach it where nothing is in their way, so that dense parts get the most noise.

    It speaks of radiographs and CT; in other images it is noise that grows with brightness.
    """
    photons = _strength(severity, (3000, 1000, 400, 150, 60))

    def counted(values: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        counts = draw.poisson(photons * np.exp(-_ATTENUATION * values))
        return -np.log(np.maximum(counts, 0.5) / photons) / _ATTENUATION

    return _per_value(image, counted, seed)


def contrast(image: np.ndarray, severity: Severity, seed: int) -> np.ndarray:
    """Values drawn towards their mean: 0.8 to 0.2 of the distance is left. The seed changes nothing."""
    kept = _strength(severity, (0.8, 0.65, 0.5, 0.35, 0.2))
    return _per_value(image, lambda values, _: values.mean() + kept * (values - values.mean()), seed)


def brightness(image: np.ndarray, severity: Severity, seed: int) -> np.ndarray:
    """0.05 to 0.4 of the range of values added, and cut at white. The seed changes nothing."""
    added = _strength(severity, (0.05, 0.1, 0.18, 0.28, 0.4))
    return _per_value(image, lambda values, _: values + added, seed)


def gamma(image: np.ndarray, severity: Severity, seed: int) -> np.ndarray:
    """Mid tones darkened by a power of 1.2 to 3. The seed changes nothing."""
    power = _strength(severity, (1.2, 1.5, 1.9, 2.4, 3.0))
    return _per_value(image, lambda values, _: values**power, seed)


def jpeg(image: np.ndarray, severity: Severity, seed: int) -> np.ndarray:
    """Saved as JPEG of quality 60 down to 8. The seed changes nothing."""
    quality = int(_strength(severity, (60, 40, 25, 15, 8)))
    grey = _is_grey(image)
    file = io.BytesIO()
    Image.fromarray(image[:, :, 0] if grey else image).save(file, "JPEG", quality=quality)
    decoded = np.asarray(Image.open(file))
    return np.repeat(decoded[:, :, None], image.shape[2], axis=2) if grey else decoded.copy()


CORRUPTIONS: dict[str, Callable[[np.ndarray, Severity, int], np.ndarray]] = {
    "noise": noise, "blur": blur, "low_dose": low_dose, "contrast": contrast, "brightness": brightness, "gamma": gamma,
    "jpeg": jpeg,
}  # fmt: skip


def corrupt(image: np.ndarray, corruption: str, severity: Severity, seed: int) -> np.ndarray:
    """One of `CORRUPTIONS` by name, uint8 `[H, W, 3]` -> the same.

    Raises:
        ValueError: a corruption or severity that does not exist, or another kind of image.
    """
    if corruption not in CORRUPTIONS:
        raise ValueError(f"There is no corruption {corruption!r}; there are {', '.join(CORRUPTIONS)}.")
    _strength(severity, (0,) * len(SEVERITIES))
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"An image is uint8 [H, W, 3], got {image.dtype} {list(image.shape)}.")
    return CORRUPTIONS[corruption](image, severity, seed)


def seed_of(seed: int, corruption: str, id: str) -> int:
    """The seed of one image: the order of a set changes nothing, and all severities share their draws."""
    return crc32(f"{seed}\0{corruption}\0{id}".encode())


def _strength(severity: Severity, values: tuple[float, ...]) -> float:
    if severity not in SEVERITIES:
        raise ValueError(f"There is no severity {severity!r}; there are {', '.join(SEVERITIES)}.")
    return values[SEVERITIES.index(severity)]


def _per_value(
    image: np.ndarray, change: Callable[[np.ndarray, np.random.Generator], np.ndarray], seed: int
) -> np.ndarray:
    """Changes values from 0 to 1, `[H, W, 1]` of a grey image and `[H, W, 3]` of another."""
    grey = _is_grey(image)
    values = image[:, :, :1] if grey else image
    changed = change(values.astype(np.float64) / 255, np.random.default_rng(seed))
    pixels = (np.clip(changed, 0, 1) * 255).round().astype(np.uint8)
    return np.repeat(pixels, image.shape[2], axis=2) if grey else pixels


def _is_grey(image: np.ndarray) -> bool:
    return bool((image == image[:, :, :1]).all())
