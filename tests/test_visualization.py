import numpy as np
import pytest
from PIL import Image

from reclmis.visualization import COLOURS, agreement, contact_sheet, mask_image, overlay, save_picture

GREY = Image.new("L", (8, 6), 100)
MASK = np.zeros((6, 8), dtype=np.uint8)
MASK[1:6, 1:6] = 1


def test_overlay_tints_outlines_and_leaves_the_rest():
    pixels = np.asarray(overlay(GREY, MASK, alpha=0.5))
    assert pixels.shape == (6, 8, 3)
    assert (pixels[MASK == 0] == 100).all()
    assert (pixels[1, 1:6] == COLOURS[0]).all() and (pixels[1:6, 5] == COLOURS[0]).all()
    assert (pixels[5, 1:6] == COLOURS[0]).all()  # the picture's edge is an edge of the mask too
    assert pixels[3, 3].tolist() == [round((100 + colour) / 2) for colour in COLOURS[0]]
    assert (np.asarray(GREY) == 100).all()


def test_each_class_has_its_colour():
    mask = np.repeat(np.arange(9, dtype=np.uint8), 1)[None]
    pixels = np.asarray(overlay(Image.new("RGB", (9, 1)), mask))[0]
    assert [tuple(map(int, pixel)) for pixel in pixels[1:7]] == list(COLOURS)
    assert tuple(pixels[7]) == COLOURS[0]
    own = np.asarray(overlay(Image.new("RGB", (9, 1)), mask, colours=[(1, 2, 3)]))[0]
    assert (own[1:] == (1, 2, 3)).all()


def test_an_empty_mask_changes_nothing():
    assert (np.asarray(overlay(GREY, np.zeros_like(MASK))) == 100).all()


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"6 x 8, but the mask's shape is \(8, 6\)"):
        overlay(GREY, MASK.T)
    with pytest.raises(ValueError, match="`alpha`"):
        overlay(GREY, MASK, alpha=40)


def test_mask_files():
    assert set(np.unique(mask_image(MASK))) == {0, 255}
    # A mask of several classes that shows only the first one must not look like a binary one.
    assert set(np.unique(mask_image(MASK, num_labels=3))) == {0, 1}


def test_contact_sheet_has_a_cell_for_everything():
    long = "Bilateral pulmonary infection, several infected areas, " * 12
    rows = [[GREY, "short note", overlay(GREY, MASK)], [Image.new("RGB", (300, 100), "red"), long, GREY]]
    sheet = contact_sheet(rows, ("image", "note", "mask"), cell=100)
    assert sheet.size == (8 + 3 * 108, 30 + 8 + 2 * 108)
    pixels = np.asarray(sheet)
    assert (pixels[40, 10] == 100).all()  # first picture
    assert pixels[150, 10].tolist() == [255, 0, 0]
    assert (pixels[:30] < 128).any()  # titles
    note, below = pixels[146:246, 116:216], pixels[246:]
    assert (note < 128).any() and (below == 255).all(), "the long note must stay in its cell"
    # Columns do not run into each other.
    assert (pixels[38:, 216:224] == 255).all()


def test_a_row_of_another_length_is_named():
    with pytest.raises(ValueError, match="Row 1 has 1 cells, but there are 2 titles"):
        contact_sheet([["a", "b"], ["a"]], ("one", "two"))


def test_save_makes_the_folder(tmp_path):
    path = save_picture(GREY, tmp_path / "new" / "a.png")
    assert Image.open(path).size == GREY.size


def test_words_longer_than_a_cell_are_broken():
    sheet = np.asarray(contact_sheet([["x" * 60, "a " + "y" * 60]], ["one", "two"], cell=80))
    # Neither reaches into the gap beside its cell, but for the bow of a letter.
    assert (sheet[38:, 89:95] == 255).all() and (sheet[38:, 178:] == 255).all()
    assert (sheet[38:, 8:88] < 255).any() and (sheet[38:, 96:176] < 255).any()


def test_agreement_colours_found_missed_and_too_much():
    image = Image.new("RGB", (8, 8))
    truth, mask = np.zeros((8, 8), int), np.zeros((8, 8), int)
    truth[:, :4], mask[:, 2:6] = 1, 1
    pixels = np.asarray(agreement(image, mask, truth, alpha=1.0)).astype(int)
    assert pixels[4, 3].argmax() == 1 and pixels[4, 1].argmax() == 0 and pixels[4, 5].argmax() == 2
    assert not pixels[4, 7].any()
    mask[:, 2:6] = 2
    assert np.asarray(agreement(image, mask, truth, alpha=1.0))[4, 3].argmax() == 0
