"""A note and an image to a mask, in five lines.

    python examples/predict.py runs/demo/best image.png "Unilateral pulmonary infection, upper left lung." mask.png

The command `reclmis predict` does the same for folders and tables.
"""

import sys

from PIL import Image

from reclmis import RecLMISModel, RecLMISProcessor
from reclmis.images import read_image


def main(model_name: str, image_path: str, note: str, mask_path: str) -> None:
    model = RecLMISModel.from_pretrained(model_name, prune_reconstruction=True)
    processor = RecLMISProcessor.from_pretrained(model_name)
    image = read_image(image_path)
    outputs = model(**processor(images=image, text=note, return_tensors="pt"))
    mask = processor.post_process_semantic_segmentation(outputs, target_sizes=[(image.height, image.width)])[0]

    Image.fromarray((mask * 255).byte().numpy()).save(mask_path)
    print(f"{mask.float().mean():.1%} of the image is what the note describes; mask in {mask_path}.")


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
