"""What one training image costs: a full step (forward, all losses, backward, Adam) per preset, repeats interleaved.

    python benchmarks/training_cost.py [--image_size 224] [--batch_size 4] [--repeats 5]

Writes `benchmarks/results/training_cost.json`: median seconds per image, and the ratio to `base`.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from reclmis import RecLMISConfig, RecLMISModel
from reclmis.training import build_optimizer

PRESETS = ("tiny", "small", "base")


def prepare(preset: str, batch_size: int, image_size: int):
    """A model, random inputs with masks, and a step of training on them as a function without arguments."""
    torch.manual_seed(0)
    config = getattr(RecLMISConfig, preset)(image_size=image_size)
    model = RecLMISModel(config).train().to(memory_format=torch.channels_last)
    optimizer = build_optimizer(model)
    ids = torch.randint(3, 200, (batch_size, config.max_text_length))
    inputs = {
        "pixel_values": torch.rand(batch_size, 3, image_size, image_size),
        "attention_mask": torch.ones_like(ids),
        "labels": torch.randint(0, 2, (batch_size, image_size, image_size)),
    }
    if config.text_frozen:
        # As in training, where a frozen tower reads each sentence once.
        inputs["text_hidden_states"] = model.encode_text(ids, inputs["attention_mask"])
    else:
        inputs["input_ids"] = ids

    def step() -> None:
        model(**inputs).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return model, inputs, step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    steps = {preset: prepare(preset, args.batch_size, args.image_size)[-1] for preset in PRESETS}
    seconds: dict[str, list[float]] = {preset: [] for preset in PRESETS}
    for repeat in range(args.repeats + 1):
        for preset, step in steps.items():
            started = time.perf_counter()
            step()
            if repeat:  # the first one warms up
                seconds[preset].append((time.perf_counter() - started) / args.batch_size)
    medians = {preset: statistics.median(values) for preset, values in seconds.items()}
    result = {
        **vars(args), "seed": 0, "threads": torch.get_num_threads(), "torch": torch.__version__,
        "seconds_per_image": medians,
        "spread": {preset: [min(values), max(values)] for preset, values in seconds.items()},
        "base_over_preset": {preset: medians["base"] / median for preset, median in medians.items()},
    }  # fmt: skip
    path = Path(__file__).resolve().parent / "results" / "training_cost.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
