"""Beyond the paper: a model that may be asked without a note, and that says when a note describes nothing of the image.

    python benchmarks/absence.py [--seeds 0 1] [--dataset path/to/QaTa-COV19 --budget qata]

Trains the preset as it is and with `note_dropout`, `presence` and a share of contradicting notes, with the same data, seeds
and budget, and asks both with the right note, none, a contradicting one and a denial. A training that is complete is kept.
Writes `benchmarks/results/absence-<budget>.json`.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from ablations import BUDGETS as SHORT
from ablations import COMMON, ROOT, slug

# Three times as long on the synthetic set: only then does a network this small tell all places apart.
BUDGETS = {**SHORT, "synthetic": {**SHORT["synthetic"], "epochs": 24}}
VARIANTS = {
    "as it is": [],
    "note dropout, presence, contradicting notes": [
        "--set", "note_dropout=0.15", "presence=true", "--absent_share", "0.25",
    ],
}  # fmt: skip


def run(budget: str, dataset: str | None, variant: str, seed: int) -> dict:
    sys.path.insert(0, str(ROOT / "examples"))
    import train

    from reclmis import RecLMISModel, RecLMISProcessor
    from reclmis.evaluation.absence import absence

    options = {**COMMON, **BUDGETS[budget], "seed": seed, **({"dataset": dataset} if dataset else {})}
    flags = [part for key, value in options.items() for part in (f"--{key}", str(value))] + VARIANTS[variant]
    with tempfile.TemporaryDirectory(prefix="absence") as scratch:
        train.main([*flags, "--output_dir", scratch])
        record = json.loads((Path(scratch) / "run.json").read_text())
        history = json.loads((Path(scratch) / "metrics.json").read_text())
        model = RecLMISModel.from_pretrained(Path(scratch) / "best", prune_reconstruction=True)
        processor = RecLMISProcessor.from_pretrained(Path(scratch) / "best")
        validation = train.build_datasets(train.parse_arguments([*flags, "--output_dir", scratch]))["validation"]
        measured = absence(model, processor, validation, seed=seed, batch_size=32)
    return {"variant": variant, "seed": seed, "seconds": history[-1]["seconds"], "data": record["data"],
            "versions": record["versions"], "commit": record["commit"], "threads": record["threads"],
            "answers": measured}  # fmt: skip


def mean_answers(runs: list[dict]) -> dict[str, dict[str, float]]:
    kinds = runs[0]["answers"]
    return {
        kind: {name: statistics.mean(run["answers"][kind][name] for run in runs) for name in values}
        for kind, values in kinds.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", choices=tuple(BUDGETS), default="synthetic")
    parser.add_argument("--dataset", help="of the budget qata")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1])
    args = parser.parse_args()
    if args.budget == "qata" and args.dataset is None:
        parser.error("--budget qata needs --dataset.")
    folder = ROOT / "runs" / "absence" / args.budget
    folder.mkdir(parents=True, exist_ok=True)
    runs: dict[str, list[dict]] = {variant: [] for variant in VARIANTS}
    for seed in args.seeds:
        for variant in VARIANTS:
            path = folder / f"{slug(variant)}-{seed}.json"
            if not path.is_file():
                part = path.with_suffix(".part")
                part.write_text(json.dumps(run(args.budget, args.dataset, variant, seed), indent=1) + "\n")
                os.replace(part, path)
            runs[variant].append(json.loads(path.read_text()))
    first = runs["as it is"][0]
    result = {
        "command": f"python benchmarks/absence.py --budget {args.budget}", "budget": BUDGETS[args.budget],
        "common": COMMON, "variants": VARIANTS, "seeds": args.seeds, "threads": first["threads"],
        "versions": first["versions"], "images": first["data"]["validation"]["images"],
        "sha256": first["data"]["validation"]["sha256"],
        "answers": {variant: mean_answers(members) for variant, members in runs.items()},
        "runs": runs,
    }  # fmt: skip
    path = Path(__file__).resolve().parent / "results" / f"absence-{args.budget}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["answers"], indent=1))


if __name__ == "__main__":
    main()
