"""Beyond the paper: a model that may be asked without a note, and that says when a note describes nothing of the image.

    python benchmarks/absence.py [--seeds 0 1] [--dataset path/to/QaTa-COV19 --budget qata]

Trains the preset as it is and with `note_dropout`, `presence` and a share of contradicting notes, with the same data, seeds
and budget, and asks both with the right note, none, a contradicting one and a denial. A training that is complete is kept.
Writes `benchmarks/results/absence-<budget>.json`.
"""

import argparse
import json
import statistics
from functools import partial
from pathlib import Path

from ablations import BUDGETS as SHORT
from ablations import COMMON, ROOT, check_alike, keep, slug, train_and_measure

# Three times as long on the synthetic set: only then does a network this small tell all places apart.
BUDGETS = {**SHORT, "synthetic": {**SHORT["synthetic"], "epochs": 24}}
VARIANTS = {
    "as it is": [],
    "note dropout, presence, contradicting notes": [
        "--set", "note_dropout=0.15", "presence=true", "--absent_share", "0.25",
    ],
}  # fmt: skip


def run(budget: str, dataset: str | None, variant: str, seed: int) -> dict:
    from reclmis.evaluation.absence import absence

    options = {**COMMON, **BUDGETS[budget], "seed": seed, **({"dataset": dataset} if dataset else {})}
    measured = train_and_measure(options, VARIANTS[variant], partial(absence, seed=seed, batch_size=32))
    return {"variant": variant, **measured}


def mean_answers(runs: list[dict]) -> dict[str, dict[str, float]]:
    kinds = runs[0]["metrics"]
    return {
        kind: {name: statistics.mean(run["metrics"][kind][name] for run in runs) for name in values}
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
    runs: dict[str, list[dict]] = {variant: [] for variant in VARIANTS}
    for seed in args.seeds:
        for variant in VARIANTS:
            path = folder / f"{slug(variant)}-{seed}.json"
            if not path.is_file():
                keep(run(args.budget, args.dataset, variant, seed), path)
            runs[variant].append(json.loads(path.read_text()))
    check_alike([run for some in runs.values() for run in some], {**COMMON, **BUDGETS[args.budget]})
    first = runs["as it is"][0]
    where = " --dataset path/to/QaTa-COV19" if args.budget == "qata" else ""
    result = {
        "command": f"python benchmarks/absence.py --budget {args.budget}{where} --seeds {' '.join(map(str, args.seeds))}",
        "budget": BUDGETS[args.budget],
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
