"""Which part of a scanner's values becomes black to white."""

import numpy as np

Window = str | tuple[float, float]

# Level and width in Hounsfield units, as radiology teaches them (Radiopaedia, "Windowing (CT)").
WINDOWS: dict[str, tuple[float, float]] = {
    "lung": (-600, 1500),
    "mediastinum": (50, 350),
    "bone": (400, 1800),
    "brain": (40, 80),
    "abdomen": (50, 400),
    "liver": (30, 150),
}
FULL = "full"
_NARROWEST = 1e-6


def resolve_window(window: Window, values: np.ndarray) -> tuple[float, float]:
    """Level and width of a window by name, as numbers, or `"full"`: from the least to the largest value.

    Raises:
        ValueError: no such name, or a width that is not above 0.
    """
    if isinstance(window, str):
        if window == FULL:
            low, high = float(values.min()), float(values.max())
            return (low + high) / 2, max(high - low, _NARROWEST)
        if window not in WINDOWS:
            raise ValueError(f"No window {window!r}; there are {', '.join(WINDOWS)}, {FULL}, or give (level, width).")
        return WINDOWS[window]
    level, width = (float(number) for number in window)
    if not (np.isfinite(level) and np.isfinite(width) and width > 0):
        raise ValueError(f"A window is (level, width) with a width above 0, got {window}.")
    return level, width


def apply_window(values: np.ndarray, window: Window) -> np.ndarray:
    """Values as uint8: the window's lower end becomes 0, its upper end 255, in between linearly.

    Raises:
        ValueError: see [`resolve_window`].
    """
    level, width = resolve_window(window, values)
    shares = (values.astype(np.float32) - np.float32(level - width / 2)) / np.float32(width)
    return np.rint(shares.clip(0, 1) * 255).astype(np.uint8)
