"""Pictures of masks, with Pillow alone."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Colour-blind safe (Okabe and Ito), one per class.
COLOURS = ((213, 94, 0), (0, 114, 178), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233))


def overlay(image: Image.Image, mask: np.ndarray, alpha: float = 0.4) -> Image.Image:
    """The image with each class tinted and outlined.

    Args:
        image: any PIL image.
        mask: class indices `[H, W]` of the image's size; 0 is left as it is.
        alpha: opacity of the tint, 0 to 1.

    Raises:
        ValueError: the mask has another size.
    """
    if mask.shape != (image.height, image.width):
        raise ValueError(f"The image is {image.height} x {image.width}, the mask {mask.shape[0]} x {mask.shape[1]}.")
    pixels = np.asarray(image.convert("RGB")).astype(np.float32)
    for index in np.unique(mask[mask > 0]):
        colour = np.array(COLOURS[(int(index) - 1) % len(COLOURS)], dtype=np.float32)
        inside = mask == index
        pixels[inside] = (1 - alpha) * pixels[inside] + alpha * colour
        pixels[inside & ~_eroded(inside)] = colour
    return Image.fromarray(pixels.round().astype(np.uint8))


def mask_image(mask: np.ndarray) -> Image.Image:
    """A mask as a file has it: 0 and 255 when binary, class indices otherwise."""
    binary = mask.max(initial=0) <= 1
    return Image.fromarray((mask * 255 if binary else mask).astype(np.uint8))


def contact_sheet(rows: Sequence[Sequence[Image.Image | str]], titles: Sequence[str], cell: int = 200) -> Image.Image:
    """A table of pictures and texts.

    Args:
        rows: per row as many pictures or texts as there are titles; pictures are fitted into a square, texts wrapped.
        titles: of the columns.
        cell: side of a square in pixels.

    Raises:
        ValueError: a row of another length.
    """
    gap, top = 8, 30
    wrong = [len(row) for row in rows if len(row) != len(titles)]
    if wrong:
        raise ValueError(f"A row has {wrong[0]} cells, but there are {len(titles)} titles.")
    sheet = Image.new("RGB", (gap + len(titles) * (cell + gap), top + gap + len(rows) * (cell + gap)), "white")
    draw = ImageDraw.Draw(sheet)
    font, small = ImageFont.load_default(15), ImageFont.load_default(14)
    for column, title in enumerate(titles):
        draw.text((gap + column * (cell + gap), gap), title, fill="black", font=font)
    for index, row in enumerate(rows):
        for column, content in enumerate(row):
            left, upper = gap + column * (cell + gap), top + gap + index * (cell + gap)
            if isinstance(content, str):
                draw.multiline_text((left, upper + gap), textwrap.fill(content, cell // 8), fill="black", font=small)
            else:
                picture = content.convert("RGB")
                picture.thumbnail((cell, cell))
                if max(content.size) < cell:
                    factor = cell / max(content.size)
                    picture = picture.resize([round(side * factor) for side in content.size], Image.Resampling.NEAREST)
                sheet.paste(picture, (left, upper))
    return sheet


def save_picture(picture: Image.Image, path: str | Path) -> Path:
    """Saves a picture, with its folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    return path


def _eroded(inside: np.ndarray) -> np.ndarray:
    padded = np.pad(inside, 1)
    return padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:] & inside
