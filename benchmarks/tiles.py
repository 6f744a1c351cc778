"""Large images: one look at the whole, resized, or tiles at their own resolution, at the same number of training steps.

    python benchmarks/tiles.py --data path/to/MoNuSeg

Trains the same network both ways (a run that is complete in `runs/` is kept), and scores both at the images' own size.
Writes `benchmarks/results/tiles.json`.
"""

import argparse
import json
import time
from pathlib import Path

from reproduce import COMMON, RESULTS, launch, summary

SHARED = {**COMMON, "preset": "small", "batch_size": 8, "learning_rate": 1e-3, "warmup_steps": 30, "augment": "strong",
          "normalize_per_image": True, "ema": 0.98}  # fmt: skip
TILE, OVERLAP = 160, 0.5
# 1000 pixels are 7 tiles of 160: 4 epochs of the tiles are as many samples as 196 of the images.
RUNS = {
    "whole": {**SHARED, "image_size": 224, "epochs": 196},
    "tiles": {**SHARED, "image_size": TILE, "tile": TILE, "epochs": 4},
}
ASKED: dict[str, dict] = {"whole": {}, "tiles": {"tile": TILE, "overlap": OVERLAP}}


def measure(dataset: str, folder: Path, asked: dict) -> dict:
    from reclmis import RecLMISModel, RecLMISProcessor
    from reclmis.data import build_manifest, load_dataset_by_name
    from reclmis.evaluation import score_split

    rows = load_dataset_by_name(dataset, splits=["validation"])["validation"]
    model = RecLMISModel.from_pretrained(folder / "best", prune_reconstruction=True)
    processor = RecLMISProcessor.from_pretrained(folder / "best")
    started = time.perf_counter()
    metrics = score_split(model, processor, rows, **asked).summary()
    return {
        "metrics": metrics, "seconds_per_image": (time.perf_counter() - started) / len(rows), "asked": asked,
        "sha256": build_manifest({"validation": rows})["validation"]["sha256"],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a dataset of large images, such as MoNuSeg")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", nargs="*", choices=tuple(RUNS), default=list(RUNS), help="train these alone")
    args = parser.parse_args()
    folders = {name: launch(args.data, f"tiles-{name}", RUNS[name], args.threads) for name in args.runs}
    if set(folders) != set(RUNS):
        return
    result = {
        "command": "python benchmarks/tiles.py --data path/to/MoNuSeg",
        "dataset": Path(args.data).name,
        "runs": {name: {**summary(folder), "evaluation": measure(args.data, folder, ASKED[name])}
                 for name, folder in folders.items()},
    }  # fmt: skip
    (RESULTS / "tiles.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
