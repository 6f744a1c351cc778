"""Writes the synthetic set as a folder of files, as data of this field come: LViT's layout.

    python examples/synthetic_folder.py path/to/lungs --images 400 --size 192

    path/to/lungs/{Train,Val,Test}_Folder/img/train_0000.png               images
    path/to/lungs/{Train,Val,Test}_Folder/labelcol/mask_train_0000.png     masks, 0 and 255
    path/to/lungs/{Train,Val,Test}_Folder/Train_text.xlsx                  notes, with the columns Image and Description

Validation and test get a quarter of the training images each. What a file shows depends on its name, the size and the seed
alone: `test_0003.png` has the same note however many images there are.
"""

import argparse
from pathlib import Path

from openpyxl import Workbook
from PIL import Image

from reclmis.data import make_sample
from reclmis.data.lvit import LVIT_SPLITS

# Where a split begins in the endless synthetic set: far apart, so that splits share no image.
FIRST = {"train": 0, "validation": 10**6, "test": 2 * 10**6}


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a new folder")
    parser.add_argument("--images", type=int, default=400, help="for training")
    parser.add_argument("--size", type=int, default=192, help="side of an image in pixels, at least 32")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if args.folder.exists():
        parser.error(f"{args.folder} is there already; give a new folder, so that no old image mixes in.")
    rest = max(args.images // 4, 1)
    for split, count in {"train": args.images, "validation": rest, "test": rest}.items():
        write_split(args.folder, split, count, args.size, args.seed)
        print(f"{count} images in {args.folder / LVIT_SPLITS[split]}")


def write_split(root: Path, split: str, count: int, size: int, seed: int) -> None:
    """Draws so many samples, and writes image, mask and note of each."""
    folder = root / LVIT_SPLITS[split]
    name = folder.name.removesuffix("_Folder")
    images, masks = folder / "img", folder / "labelcol"
    images.mkdir(parents=True)
    masks.mkdir()
    table = Workbook()
    table.active.append(["Image", "Description"])
    for number in range(count):
        sample, file = make_sample(FIRST[split] + number, size=size, seed=seed), f"{name.lower()}_{number:04d}.png"
        Image.fromarray(sample["image"][:, :, 0]).save(images / file)
        Image.fromarray(sample["mask"] * 255).save(masks / f"mask_{file}")
        table.active.append([file, sample["note"]])
    table.save(folder / f"{name}_text.xlsx")


if __name__ == "__main__":
    main()
