"""Pictures of masks, with Pillow alone."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .files import replacing

# Colour-blind safe (Okabe and Ito), one per class.
COLOURS = ((213, 94, 0), (0, 114, 178), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233))


def overlay(
    image: Image.Image, mask: np.ndarray, alpha: float = 0.4, colours: Sequence[tuple[int, int, int]] = COLOURS
) -> Image.Image:
    """The image with each class tinted and outlined.

    Args:
        image: any PIL image.
        mask: class indices `[H, W]` of the image's size; 0 is left as it is.
        alpha: opacity of the tint, 0 to 1.
        colours: RGB per class from 1 on, used again from the first when there are more classes.

    Raises:
        ValueError: the mask has another size, or the opacity is out of range.
    """
    if mask.shape != (image.height, image.width):
        raise ValueError(f"The image is {image.height} x {image.width}, but the mask's shape is {mask.shape}.")
    if not 0 <= alpha <= 1:
        raise ValueError(f"`alpha` must lie between 0 and 1, got {alpha}.")
    pixels = np.asarray(image.convert("RGB")).astype(np.float32)
    for index in np.unique(mask[mask > 0]):
        colour = np.array(colours[(int(index) - 1) % len(colours)], dtype=np.float32)
        inside = mask == index
        pixels[inside] = (1 - alpha) * pixels[inside] + alpha * colour
        pixels[inside & ~_eroded(inside)] = colour
    return Image.fromarray(pixels.round().astype(np.uint8))


def agreement(image: Image.Image, mask: np.ndarray, truth: np.ndarray, alpha: float = 0.4) -> Image.Image:
    """A mask held against the truth, as in the paper's figures: found green, missed red, too much blue.

    Args:
        image: any PIL image.
        mask, truth: class indices `[H, W]` of the image's size; where both have foreground, but of another class, the pixel
            counts as missed.
        alpha: opacity of the tint.
    """
    missed = (truth > 0) & (mask != truth)
    verdict = np.where(missed, 2, np.where((mask > 0) & (truth == 0), 3, (truth > 0).astype(np.uint8)))
    return overlay(image, verdict, alpha, colours=((0, 158, 60), (213, 30, 30), (30, 80, 213)))


def mask_image(mask: np.ndarray, num_labels: int = 1) -> Image.Image:
    """A mask as a file has it: 0 and 255 for a binary model (`num_labels` = 1), class indices otherwise."""
    return Image.fromarray((mask * 255 if num_labels == 1 else mask).astype(np.uint8))


def contact_sheet(rows: Sequence[Sequence[Image.Image | str]], titles: Sequence[str], cell: int = 200) -> Image.Image:
    """A table of pictures and texts.

    Args:
        rows: per row as many pictures or texts as there are titles; pictures are fitted into a square, texts are
            wrapped, and set smaller where they would not fit.
        titles: of the columns.
        cell: side of a square in pixels.

    Raises:
        ValueError: a row of another length.
    """
    gap, top = 8, 30
    wrong = [(number, len(row)) for number, row in enumerate(rows) if len(row) != len(titles)]
    if wrong:
        raise ValueError(f"Row {wrong[0][0]} has {wrong[0][1]} cells, but there are {len(titles)} titles.")
    sheet = Image.new("RGB", (gap + len(titles) * (cell + gap), top + gap + len(rows) * (cell + gap)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        draw.text((gap + column * (cell + gap), gap), title, fill="black", font=ImageFont.load_default(15))
    for index, row in enumerate(rows):
        for column, content in enumerate(row):
            corner = (gap + column * (cell + gap), top + gap + index * (cell + gap))
            if isinstance(content, str):
                text, font = _fitted(draw, content, cell)
                draw.multiline_text(corner, text, fill="black", font=font)
            else:
                sheet.paste(_scaled(content, cell), corner)
    return sheet


def save_picture(picture: Image.Image, path: str | Path) -> Path:
    """Saves a picture, with its folder; whole or not at all."""
    with replacing(path) as temporary:
        picture.save(temporary)
    return Path(path)


def _scaled(picture: Image.Image, cell: int) -> Image.Image:
    factor = cell / max(picture.size)
    size = [max(round(side * factor), 1) for side in picture.size]
    # Enlarged pixels stay pixels, so that a mask shows what it is.
    how = Image.Resampling.NEAREST if factor > 1 else Image.Resampling.BICUBIC
    return picture.convert("RGB").resize(size, how)


def _fitted(draw: ImageDraw.ImageDraw, text: str, cell: int):
    """The text wrapped to the width of a cell, in the largest size (14 to 7 points) whose lines fit its height. What
    does not fit even then ends in dots."""
    for points in range(14, 6, -1):
        font = ImageFont.load_default(points)
        lines = _wrapped(draw, text, font, cell)
        if _height(draw, lines, font) <= cell:
            return "\n".join(lines), font
    while len(lines) > 1 and _height(draw, lines, font) > cell:
        lines = [*lines[:-2], "..."]
    return "\n".join(lines), font


def _height(draw: ImageDraw.ImageDraw, lines: list[str], font) -> float:
    return draw.multiline_textbbox((0, 0), "\n".join(lines), font=font)[3]


def _wrapped(draw: ImageDraw.ImageDraw, text: str, font, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font=font) <= width:
            lines[-1] = longer
            continue
        pieces = _broken(draw, word, font, width)
        lines = [*(lines if lines[-1] else lines[:-1]), *pieces]
    return lines


def _broken(draw: ImageDraw.ImageDraw, word: str, font, width: int) -> list[str]:
    """A word in pieces that fit, as names of files can be longer than a line."""
    pieces = [""]
    for letter in word:
        if pieces[-1] and draw.textlength(pieces[-1] + letter, font=font) > width:
            pieces.append("")
        pieces[-1] += letter
    return pieces


def _eroded(inside: np.ndarray) -> np.ndarray:
    padded = np.pad(inside, 1)
    return padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:] & inside
