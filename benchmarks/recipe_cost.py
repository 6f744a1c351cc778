"""What the recipes should take on one GPU and on eight, from counted operations and the one duration that the paper gives.

    python benchmarks/recipe_cost.py

The paper trains QaTa-COV19 (5716 images, 200 epochs) for 7.5 hours on four RTX 3090. Operations per image are counted here
(a forward pass of the training model; backward costs twice as much again), which gives the rate that a GPU reached there.
Every other recipe is its own number of operations at that rate, and eight GPUs are taken as eight times as fast. Writes
`benchmarks/results/recipe_cost.json`.
"""

import json
from pathlib import Path

import torch
import yaml
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from reclmis import RecLMISConfig, RecLMISModel

ROOT = Path(__file__).resolve().parents[1]
# Training images: section 4.1 of the paper; LViT's split of MoNuSeg.
IMAGES = {"qata": 5716, "mosmed": 2183, "monuseg": 24}
PAPER = {"recipe": "qata-paper", "hours": 7.5, "gpus": 4}


def forward_flops(recipe: dict) -> int:
    """Of one image and note in training, all losses included. The frozen text tower reads each note once and is left out."""
    config = getattr(RecLMISConfig, recipe["preset"])(image_size=recipe["image_size"], **recipe.get("set", {}))
    side, length = config.image_size, config.max_text_length
    model = RecLMISModel(config).train()
    inputs = {
        "pixel_values": torch.rand(2, 3, side, side), "attention_mask": torch.ones(2, length, dtype=torch.long),
        "labels": torch.randint(0, 2, (2, side, side)),
    }  # fmt: skip
    if config.text_frozen:
        inputs["text_hidden_states"] = torch.rand(2, length, model.text_encoder.width)
    else:
        inputs["input_ids"] = torch.ones(2, length, dtype=torch.long)
    # The counter knows attention as two matrix products, not by the name of every fused kernel.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(**inputs)
    return counter.get_total_flops() // 2


def main() -> None:
    paths = sorted((ROOT / "examples" / "configs").glob("*.yaml"))
    recipes = {path.stem: yaml.safe_load(path.read_text()) for path in paths}
    rows = {}
    for name, recipe in recipes.items():
        images = IMAGES[name.partition("-")[0]]
        forward = forward_flops(recipe)
        rows[name] = {"images": images, "epochs": recipe["epochs"], "forward_flops_per_image": forward,
                      "training_flops": 3 * forward * images * recipe["epochs"]}  # fmt: skip
    paper = rows[PAPER["recipe"]]
    rate = paper["training_flops"] / (PAPER["hours"] * 3600 * PAPER["gpus"])
    for row in rows.values():
        row["hours_one_gpu"] = row["training_flops"] / rate / 3600
        row["hours_eight_gpus"] = row["hours_one_gpu"] / 8
    result = {"paper": PAPER, "flops_per_second_and_gpu": rate, "recipes": rows}
    path = Path(__file__).resolve().parent / "results" / "recipe_cost.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
