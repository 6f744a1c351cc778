"""The trainings behind the README's tables, with one command each.

    python benchmarks/reproduce.py qata --data path/to/QaTa-COV19
    python benchmarks/reproduce.py monuseg --data path/to/MoNuSeg
    python benchmarks/reproduce.py synthetic

Each trains (a run that is complete in `runs/` is kept; an interrupted one goes on), measures the best epoch's checkpoint
at the images' own size, and writes `benchmarks/results/<name>.json`. `benchmarks/report.py` turns those into the README.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).resolve().parent / "results"

COMMON = {"optimizer": "adamw", "weight_decay": 0.01, "grad_clip": 1.0, "seed": 0}
QATA = {**COMMON, "preset": "small", "image_size": 112, "epochs": 12, "batch_size": 16, "learning_rate": 1e-3,
        "warmup_steps": 75, "ema": 0.98}  # fmt: skip
EXPERIMENTS: dict[str, dict[str, dict]] = {
    "qata": {"qata-right": {**QATA, "note_mode": "right"}, "qata-constant": {**QATA, "note_mode": "constant"}},
    "monuseg": {
        "monuseg-base": {
            **COMMON, "preset": "base", "image_size": 224, "epochs": 40, "batch_size": 4, "learning_rate": 1e-3,
            "warmup_steps": 12, "augment": "strong", "normalize_per_image": True,
        }
    },
    "synthetic": {
        "synthetic": {
            **COMMON, "preset": "tiny", "image_size": 96, "epochs": 9, "batch_size": 16, "learning_rate": 2e-3,
            "warmup_steps": 50, "ema": 0.98, "num_synthetic": 1000,
        }
    },
}  # fmt: skip


def flags_of(options: dict) -> list[str]:
    """A run's options as `examples/train.py` takes them."""
    return [part for key, value in options.items()
            for part in ([f"--{key}"] if value is True else [f"--{key}", str(value)])]  # fmt: skip


def is_complete(folder: Path, epochs: int) -> bool:
    """Whether a run has all its epochs."""
    record = folder / "metrics.json"
    return record.is_file() and len(json.loads(record.read_text())) >= epochs


def launch(dataset: str, name: str, options: dict, threads: int) -> Path:
    """Trains one run unless it is complete, and returns its folder."""
    folder = ROOT / "runs" / name
    if is_complete(folder, options["epochs"]):
        print(f"{name}: complete already.")
        return folder
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "--num_machines", "1",
               "--mixed_precision", "no", "--dynamo_backend", "no", "--cpu", "--num_cpu_threads_per_process",
               str(threads), "examples/train.py", "--dataset", dataset, *flags_of(options), "--output_dir",
               str(folder.relative_to(ROOT)), "--resume"]  # fmt: skip
    subprocess.run(command, check=True, cwd=ROOT)
    return folder


def evaluate(dataset: str, folder: Path, *flags: str) -> dict:
    """Runs `examples/evaluate.py` on the best checkpoint and returns what it wrote."""
    output = folder / "evaluation.json"
    command = [sys.executable, "examples/evaluate.py", "--model", str((folder / "best").relative_to(ROOT)),
               "--dataset", dataset, "--output", str(output), *flags]  # fmt: skip
    subprocess.run(command, check=True, cwd=ROOT)
    return json.loads(output.read_text())


def text_only(dataset: str) -> dict:
    """The floor: mean training masks by the note's zones, no image."""
    from reclmis.data import load_dataset_by_name, read_mask
    from reclmis.evaluation import TextOnlyPredictor

    splits = load_dataset_by_name(dataset, splits=["train", "validation"], verify=False)
    masks = {split: [read_mask(mask) for mask in splits[split]["mask"]] for split in splits}
    predictor = TextOnlyPredictor().fit(list(splits["train"]["note"]), masks["train"])
    validation = splits["validation"]
    metrics = predictor.score(list(validation["note"]), masks["validation"], list(validation["id"]))
    return {"metrics": metrics, "threshold": predictor.threshold, "exact_zones": predictor.exact}


def summary(folder: Path) -> dict:
    """What a training run wrote down: command, versions, data, time, and its best epoch."""
    from reclmis.training.record import portable_command

    run = json.loads((folder / "run.json").read_text())
    epochs = json.loads((folder / "metrics.json").read_text())
    best = max(epochs, key=lambda row: row["validation/dice_per_image"])
    run["command"] = portable_command(run["command"])
    keys = ("command", "seed", "commit", "versions", "processes", "threads", "parameters", "data")
    return {**{key: run[key] for key in keys}, "epochs": len(epochs), "seconds": epochs[-1]["seconds"],
            "best_epoch": best["epoch"], "at_training_size": {k.removeprefix("validation/"): v for k, v in best.items()
                                                              if k.startswith("validation/")}}  # fmt: skip


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--data", default="synthetic", help="the dataset's folder")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of a training")
    args = parser.parse_args(argv)
    result: dict = {"dataset": Path(args.data).name, "split": "validation", "runs": {}}
    for name, options in EXPERIMENTS[args.experiment].items():
        folder = launch(args.data, name, options, args.threads)
        flags = ["--text_dependence"] if options.get("note_mode") != "constant" else ["--note_mode", "constant"]
        if "num_synthetic" in options:
            flags += ["--num_synthetic", str(options["num_synthetic"])]
        evaluation = evaluate(args.data, folder, *flags)
        result["runs"][name] = {**summary(folder), "evaluation": evaluation["metrics"], "sha256": evaluation["sha256"]}
    if args.experiment == "qata":
        result["text_only"] = text_only(args.data)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{args.experiment}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(f"Written to {path.relative_to(ROOT)}.")


if __name__ == "__main__":
    main()
