"""The demonstration behind `make demo`: train on the synthetic set, then ask the same images two different questions.

About two minutes of training on two CPU cores. Writes `contact_sheet.png`: image, note, truth, mask, and the mask of the
same image under the note of its distractors.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from reclmis import RecLMISModel, RecLMISProcessor
from reclmis.data import make_sample
from reclmis.evaluation import SegmentationMeter
from reclmis.prediction import predict
from reclmis.visualization import contact_sheet, overlay, save_picture

SIZE, TRAINING_IMAGES, HELD_OUT = 96, 1000, 60


def train(output: Path, epochs: int, seed: int) -> None:
    script = Path(__file__).with_name("train.py")
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "--num_machines", "1",
              "--mixed_precision", "no", "--dynamo_backend", "no", "--cpu"]  # fmt: skip
    options = {
        "dataset": "synthetic", "num_synthetic": TRAINING_IMAGES, "preset": "tiny", "image_size": SIZE,
        "epochs": epochs, "max_minutes": 4, "batch_size": 16, "optimizer": "adamw", "learning_rate": 2e-3,
        "weight_decay": 0.01, "warmup_steps": 50, "grad_clip": 1.0, "ema": 0.98, "seed": seed, "output_dir": output,
    }  # fmt: skip
    arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    subprocess.run([*launch, str(script), *arguments, "--overwrite"], check=True)


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("runs/demo"))
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--rows", type=int, default=6, help="images on the contact sheet")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    train(args.output_dir, args.epochs, args.seed)

    model = RecLMISModel.from_pretrained(args.output_dir / "best", prune_reconstruction=True)
    processor = RecLMISProcessor.from_pretrained(args.output_dir / "best")
    # Indices far behind those of training and validation: nobody has seen these images.
    samples = [make_sample(10**6 + index, size=SIZE, seed=args.seed) for index in range(HELD_OUT)]
    answers = {
        question: [p.mask for p in predict(model, processor, [(s["image"], s[f"{question}note"]) for s in samples])]
        for question in ("", "distractor_")
    }
    for question, title in (("", "the note"), ("distractor_", "the note of the distractors")):
        meter = SegmentationMeter()
        meter.update(answers[question], [sample[f"{question}mask"] for sample in samples])
        scores = meter.compute()
        print(f"Dice under {title}: {scores['dice_per_image']:.3f} per image, {scores['dice_pooled']:.3f} pooled "
              f"({HELD_OUT} held-out images)")  # fmt: skip
    wrong = SegmentationMeter()
    wrong.update(answers["distractor_"], [sample["mask"] for sample in samples])
    print(f"Dice of the distractors' masks against the note's truth: {wrong.compute()['dice_per_image']:.3f} per image")

    titles = ("image", "note", "truth", "mask", "another note", "its mask")
    rows = [_row(sample, answers, index) for index, sample in enumerate(samples[: args.rows])]
    path = save_picture(contact_sheet(rows, titles), args.output_dir / "contact_sheet.png")
    print(f"Contact sheet: {path}")


def _row(sample: dict, answers: dict[str, list[np.ndarray]], index: int) -> list[Image.Image | str]:
    image = Image.fromarray(sample["image"])
    return [
        image,
        sample["note"],
        overlay(image, sample["mask"]),
        overlay(image, answers[""][index]),
        sample["distractor_note"],
        overlay(image, answers["distractor_"][index]),
    ]


if __name__ == "__main__":
    main()
