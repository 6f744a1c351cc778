"""A small data folder in LViT's layout, written afresh for each test."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FOLDERS = {"train": "Train_Folder", "validation": "Val_Folder", "test": "Test_Folder"}
SIZE = 24


class LViTFolder:
    """Writes samples with names, notes and table as a test wants them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def split(
        self,
        names: list[str],
        *,
        split: str = "train",
        image_suffix: str = ".png",
        mask_suffix: str = ".png",
        mask_prefix: str = "mask_",
        rows: list[tuple[str, str]] | None = None,
        table: str | None = "Train_text.xlsx",
        columns: tuple[str, str] = ("Image", "Description"),
    ) -> Path:
        folder = self.root / FOLDERS[split]
        for part in ("img", "labelcol"):
            (folder / part).mkdir(parents=True)
        for number, name in enumerate(names):
            image, mask = sample_arrays(number)
            Image.fromarray(image).save(folder / "img" / f"{name}{image_suffix}")
            Image.fromarray(mask * 255).save(folder / "labelcol" / f"{mask_prefix}{name}{mask_suffix}")
        if table is not None:
            rows = [(f"mask_{name}.png", f"note of {name}") for name in names] if rows is None else rows
            self.table(folder / table, rows, columns)
        return folder

    @staticmethod
    def table(path: Path, rows: list[tuple], columns: tuple[str, ...] = ("Image", "Description")) -> Path:
        from openpyxl import Workbook

        book = Workbook()
        for row in (columns, *rows):
            book.active.append(row)
        book.save(path)
        return path


def sample_arrays(number: int, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(number)
    mask = np.zeros((size, size), np.uint8)
    mask[2 : 5 + number % 9, 3:11] = 1
    return draw.integers(0, 256, (size, size, 3), dtype=np.uint8), mask


@pytest.fixture
def lvit(tmp_path: Path) -> LViTFolder:
    return LViTFolder(tmp_path / "data")


@pytest.fixture
def arrays() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """What [`LViTFolder`] draws: image uint8 `[H, W, 3]` and mask 0/1 `[H, W]` by number."""
    return sample_arrays


@pytest.fixture
def make_sample_dict() -> Callable[..., dict]:
    def make(note: str = "upper left lung", *, name: str = "a", size: int = SIZE, grey: bool = False) -> dict:
        image, mask = sample_arrays(3, size)
        if grey:
            image = np.repeat(image[:, :, :1], 3, axis=2)
        return {"image": image, "mask": mask, "note": note, "id": name}

    return make
