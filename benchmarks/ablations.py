"""The method's open questions, answered by trainings that anyone can repeat.

    python benchmarks/ablations.py --budget synthetic
    python benchmarks/ablations.py --budget qata --data path/to/QaTa-COV19 --groups "Table 3" --seeds 0 1 2

Every variant differs from the default by the fields named, and shares data, seeds and budget with it. A run that is complete
is kept, so an interrupted series goes on where it stopped; `--share 0/2` and `--share 1/2` in two shells split the work.
`--report` writes `benchmarks/results/ablations-<budget>.json` and `benchmarks/ABLATIONS.md` from what is there.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).resolve().parent / "results"
DEFAULT = "default"

# What differs from the default of the preset, by the paper's table or figure, or by the question.
GROUPS: dict[str, dict[str, dict[str, Any]]] = {
    "Table 3, modules": {
        "no interaction (CI)": {"interaction": "none"},
        "no visual reconstruction (CVR)": {"visual_reconstruction": False},
        "no language reconstruction (CLR)": {"language_reconstruction": False},
        "neither reconstruction": {"visual_reconstruction": False, "language_reconstruction": False},
        "no contrastive loss": {"contrastive": False},
        "segmentation loss alone": {
            "visual_reconstruction": False, "language_reconstruction": False, "contrastive": False,
        },
    },
    "Table 4, conditions": {
        "contrastive loss unconditioned": {"contrastive_condition": False},
        "visual reconstruction unconditioned": {"visual_reconstruction_condition": False},
        "language reconstruction unconditioned": {"language_reconstruction_condition": False},
    },
    "Table 5, attention": {
        "interaction by self-attention": {"interaction": "self"},
        "reconstruction by self-attention": {"reconstruction_attention": "self"},
    },
    "Figures 7, 8 and 11": {
        "random masks": {"mask_strategy": "random"},
        "masks of the most interesting": {"mask_strategy": "topk"},
        "alpha_v 0.3": {"visual_mask_ratio": 0.3},
        "alpha_t 0.5": {"language_mask_ratio": 0.5},
        "three reconstruction layers": {"reconstruction_layers": 3},
    },
    "Released weights against the paper": {
        "padding attended": {"text_padding": "attend"},
        "weights softened twice": {"contrastive_weighting": "double_softmax"},
        "conditions multiplied (eq. 7, 9)": {"reconstruction_conditioning": "hadamard"},
        "causal reconstruction": {"reconstruction_causal": True},
        "V and E as targets (eq. 8, 10)": {"reconstruction_target": "features"},
        "layer-normed targets": {"reconstruction_target": "normalised"},
        "errors weighted by interest": {"reconstruction_weighting": "interest"},
        "errors weighted equally": {"reconstruction_weighting": "uniform"},
        "plain interaction block": {"interaction_block": "plain"},
    },
    "Ours": {
        "gradient into the target": {"reconstruction_stop_gradient": False},
        "equal notes as positives": {"contrastive_equal_notes": "positive"},
        "note dropout 0.15": {"note_dropout": 0.15},
    },
}  # fmt: skip

BUDGETS: dict[str, dict[str, Any]] = {
    "synthetic": {
        "dataset": "synthetic", "preset": "tiny", "image_size": 64, "num_synthetic": 800, "epochs": 8, "batch_size": 16,
        "learning_rate": 2e-3, "warmup_steps": 50,
    },
    # Two to three minutes a run on one core, so that several seeds of every variant can be had in an evening.
    "qata": {
        "preset": "small", "image_size": 64, "epochs": 6, "batch_size": 16, "learning_rate": 1e-3, "warmup_steps": 40,
        "limit_train": 800,
    },
}  # fmt: skip
COMMON = {"optimizer": "adamw", "weight_decay": 0.01, "grad_clip": 1.0, "ema": 0.98, "tracker": "none"}


def variants(groups: list[str], preset: str) -> dict[str, dict[str, Any]]:
    """What differs from this preset, of the groups whose names begin so; of all without any."""
    from reclmis import RecLMISConfig

    if absent := [name for name in groups if not any(group.startswith(name) for group in GROUPS)]:
        raise SystemExit(f"No group begins with {absent[0]!r}; there are {', '.join(GROUPS)}.")
    default = getattr(RecLMISConfig, preset)()
    members = {name: fields for group, some in GROUPS.items() for name, fields in some.items()
               if not groups or any(group.startswith(beginning) for beginning in groups)}  # fmt: skip
    differing = {name: fields for name, fields in members.items()
                 if any(getattr(default, field) != value for field, value in fields.items())}  # fmt: skip
    return {DEFAULT: {}, **differing}


def train_and_measure(
    options: dict[str, Any], more: list[str], measure: Callable[[Any, Any, Any], dict[str, Any]]
) -> dict[str, Any]:
    """Trains with these options of `examples/train.py`, hands the best epoch's model and processor and the validation split
    to `measure`, and returns its `metrics` with what must be known of the run."""
    sys.path.insert(0, str(ROOT / "examples"))
    import train

    from reclmis import RecLMISModel, RecLMISProcessor

    flags = [part for key, value in options.items() for part in (f"--{key}", str(value))] + more
    with tempfile.TemporaryDirectory(prefix="training") as scratch:
        flags += ["--output_dir", scratch]
        train.main(flags)
        record = json.loads((Path(scratch) / "run.json").read_text())
        history = json.loads((Path(scratch) / "metrics.json").read_text())
        model = RecLMISModel.from_pretrained(Path(scratch) / "best", prune_reconstruction=True)
        processor = RecLMISProcessor.from_pretrained(Path(scratch) / "best")
        validation = train.build_datasets(train.parse_arguments(flags))["validation"]
        metrics = measure(model, processor, validation)
    return {
        "options": {name: value for name, value in options.items() if name != "dataset"},
        "seed": options["seed"], "seconds": history[-1]["seconds"], "epochs": len(history),
        **{key: record[key] for key in ("data", "versions", "commit", "threads")},
        "metrics": metrics,
        "losses": {key.removeprefix("train/"): value for key, value in history[-1].items() if key.startswith("train/")},
    }  # fmt: skip


def run(budget: str, data: str | None, name: str, fields: dict[str, Any], seed: int, folder: Path) -> dict[str, Any]:
    """Trains one variant and measures its best epoch under five kinds of notes."""
    from reclmis.evaluation.text_dependence import text_dependence

    options = {**COMMON, **BUDGETS[budget], "seed": seed, **({"dataset": data} if data is not None else {})}
    more = ["--set", *(f"{key}={json.dumps(value)}" for key, value in fields.items())] if fields else []
    measured = train_and_measure(options, more, partial(text_dependence, seed=seed, batch_size=32))
    result = {"variant": name, "fields": fields, **measured}
    keep(result, folder / f"{slug(name)}-{seed}.json")
    return result


def keep(result: dict[str, Any], path: Path) -> None:
    """Writes a complete run, whole or not at all."""
    from reclmis.files import replacing

    with replacing(path) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n")


def slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower())


def collect(folder: Path) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("[!.]*.json")):
        result = json.loads(path.read_text())
        found.setdefault(result["variant"], []).append(result)
    return found


def check_alike(runs: list[dict[str, Any]], options: dict[str, Any]) -> None:
    """Runs of one table share the budget, and those of one seed the data, which may be drawn by it.

    Raises:
        SystemExit: one does not.
    """
    wanted = {name: value for name, value in options.items() if name != "dataset"}
    firsts: dict[int, dict[str, Any]] = {}
    for run in runs:
        first = firsts.setdefault(run["seed"], run)
        name = f"{run['variant']}, seed {run['seed']}"
        if run["data"] != first["data"]:
            raise SystemExit(f"{name} is of other data than {first['variant']}; remove one of them.")
        own = {key: value for key, value in run.get("options", wanted).items() if key != "seed"}
        if own != wanted:
            raise SystemExit(f"{name} was trained with {own}, not {wanted}; remove it to train it anew.")


def summarise(runs: list[dict[str, Any]], baseline: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Mean and spread over seeds, and the mean difference from the default with the same seeds."""
    values = {kind: [100 * run["metrics"][kind]["dice_per_image"] for run in runs] for kind in runs[0]["metrics"]}
    paired = [100 * (run["metrics"]["right"]["dice_per_image"] - baseline[run["seed"]]["metrics"]["right"]["dice_per_image"])
              for run in runs if run["seed"] in baseline]  # fmt: skip
    return {
        "seeds": [run["seed"] for run in runs],
        "dice_per_image": {kind: statistics.mean(numbers) for kind, numbers in values.items()},
        "spread": max(values["right"]) - min(values["right"]) if len(runs) > 1 else None,
        "difference": statistics.mean(paired) if paired else None,
        "differences": paired,
    }


def table(budget: str, result: dict[str, Any]) -> str:
    options = {**result["common"], **result["budget"]}
    settings = " ".join(f"--{key} {value}" for key, value in options.items() if key != "dataset")
    rows = result["variants"]
    seeds = ", ".join(map(str, result["seeds"]))
    lines = [f"## {budget}", "", f"`{settings}`, seeds {seeds}; Dice per image in percent, mean "
             f"over seeds, of {result['images']} validation images (split sha256 `{result['sha256'][:12]}`).", "",
             "| variant | right note | spread | against the default, seed by seed | shuffled | empty | sides swapped |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    lines.append(_row("**default**", rows[DEFAULT]))
    for group, members in GROUPS.items():
        present = [name for name in members if name in rows]
        if present:
            lines.append(f"| *{group}* | | | | | | |")
            lines += [_row(name, rows[name]) for name in present]
    return "\n".join(lines)


def _row(name: str, row: dict[str, Any]) -> str:
    dice = row["dice_per_image"]
    paired = ", ".join(f"{value:+.1f}" for value in row["differences"]) if "default" not in name else ""
    others = " | ".join(f"{dice[kind]:.1f}" for kind in ("shuffled", "empty", "swapped"))
    spread = "" if row["spread"] is None else f"{row['spread']:.1f}"
    return f"| {name} | {dice['right']:.1f} | {spread} | {paired} | {others} |"


def report(budget: str, folder: Path) -> None:
    found = collect(folder)
    check_alike([run for runs in found.values() for run in runs], {**COMMON, **BUDGETS[budget]})
    if DEFAULT not in found:
        raise SystemExit(f"{folder} holds no run of the default, which the others are compared with.")
    baseline = {run["seed"]: run for run in found[DEFAULT]}
    first = found[DEFAULT][0]
    result = {
        "budget": BUDGETS[budget], "common": COMMON, "seeds": sorted(baseline),
        "images": first["data"]["validation"]["images"], "sha256": first["data"]["validation"]["sha256"],
        "threads": first["threads"], "versions": first["versions"],
        "seconds_per_run": statistics.median(run["seconds"] for runs in found.values() for run in runs),
        "variants": {name: summarise(runs, baseline) for name, runs in found.items()},
        "runs": [run for runs in found.values() for run in runs],
    }  # fmt: skip
    (RESULTS / f"ablations-{budget}.json").write_text(json.dumps(result, indent=1) + "\n")
    sections = [table(name, json.loads(path.read_text())) for name in BUDGETS
                if (path := RESULTS / f"ablations-{name}.json").is_file()]  # fmt: skip
    introduction = (
        "# Ablations\n\nWritten by `benchmarks/ablations.py --report`; no number is typed by hand. Differences smaller than "
        "the default's own spread say nothing. A variant without a spread was trained with the first seed alone: hold its "
        "difference from the default against it, not its mean."
    )
    text = "\n\n".join([introduction, *sections]) + "\n"
    (Path(__file__).resolve().parent / "ABLATIONS.md").write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", choices=tuple(BUDGETS), default="synthetic")
    parser.add_argument("--data", help="the dataset of the budget qata")
    parser.add_argument("--groups", nargs="*", default=[], help="beginnings of the groups' names; by default all")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1])
    parser.add_argument("--share", default="0/1", help="I/N: this shell takes every N-th run from the I-th on")
    parser.add_argument("--report", action="store_true", help="write tables from the runs that are complete")
    args = parser.parse_args()
    folder = ROOT / "runs" / "ablations" / args.budget
    if args.report:
        report(args.budget, folder)
        return
    if args.budget == "qata" and args.data is None:
        parser.error("--budget qata needs --data.")
    part, parts = (int(number) for number in args.share.split("/"))
    # All variants of a seed come before the next seed, so that whatever is there at any time is a fair table.
    wanted = [(name, fields, seed) for seed in args.seeds 
              for name, fields in variants(args.groups, BUDGETS[args.budget]["preset"]).items()]  # fmt: skip
    for name, fields, seed in wanted[part::parts]:
        if not (folder / f"{slug(name)}-{seed}.json").is_file():
            result = run(args.budget, args.data, name, fields, seed, folder)
            print(
                f"{name}, seed {seed}: {result['metrics']['right']['dice_per_image']:.4f} in {result['seconds']} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
