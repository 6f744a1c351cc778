"""What is known of the checkpoints that were trained here: scores, text dependence, robustness, explanations.

    python benchmarks/evidence.py --run synthetic=runs/synthetic/best=synthetic --num_synthetic 1000
    python benchmarks/evidence.py --run QaTa-COV19=runs/qata-right/best=path/to/QaTa-COV19
    python benchmarks/evidence.py --report

Runs `reclmis evaluate`, `certify` and `robustness`, and counts over validation images where the maps of `reclmis explain`
point. What is complete in `runs/evidence/NAME` is kept. `--report` writes the tables of `benchmarks/EVIDENCE.md` from what
is there, with figures over whole splits only: no image, note or name of a sample is written.
"""

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "runs" / "evidence"
PLACES = {"left", "right", "upper", "middle", "lower", "all"}
MAPS = {
    "patch_interest": "patches of interest, W_poi", "grad_cam": "Grad-CAM", "visual": "V, before the note",
    "interacted": "V', after the note", "word_attention": "attention of the words",
}  # fmt: skip
# What stands before it in EVIDENCE.md is written by hand, after looking at the figures of these checkpoints, and stays.
MARK = "<!-- results -->"


def explanations(model: Any, processor: Any, dataset: Any, count: int) -> dict[str, Any]:
    """Means over the first images whose mask and truth are not empty."""
    from reclmis.data.masks import read_mask
    from reclmis.explanation import deletion_insertion, explain, grad_cam, randomisation_check, word_removal

    values: dict[str, list[float]] = defaultdict(list)
    maps_values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in dataset:
        truth = read_mask(row["mask"]) > 0
        found = explain(model, processor, row["image"], row["note"])
        if not truth.any() or not found.mask.any():
            continue
        grids = {"patch_interest": found.patch_interest, "grad_cam": grad_cam(model, processor, row["image"], row["note"]),
                 "visual": found.visual, "interacted": found.interacted,
                 "word_attention": found.word_attention.mean(axis=0)}  # fmt: skip
        maps = {name: found.at_image(grid) for name, grid in grids.items()}
        tried = deletion_insertion(model, processor, row["image"], row["note"], maps, seed=0)
        randomised = randomisation_check(model, processor, row["image"], row["note"], seed=0).similarity
        for name, map_ in maps.items():
            total = map_.sum()
            # A Grad-CAM without any positive part points nowhere.
            maps_values[name]["inside the truth"].append(float(map_[truth].sum() / total) if total > 0 else 0.0)
            maps_values[name]["ranks the truth"].append(_above(map_, truth))
            maps_values[name]["deletion"].append(tried[name].areas["deletion"])
            maps_values[name]["insertion"].append(tried[name].areas["insertion"])
            maps_values[name]["similar when randomised"].append(abs(float(randomised[name][-1])))
        for order in ("deletion", "insertion"):
            values[f"random {order}"].append(tried["grad_cam"].areas[f"random_{order}"])
        values["truth's share of the image"].append(float(truth.mean()))
        values["greatest patch of interest"].append(float(found.patch_interest.max()))
        values["interest on no word"].append(sum(weight for _, weight in found.left_out))
        values["interest on words of place"].append(
            sum(weight for word, weight in found.weighted_words if word.lower() in PLACES)
        )
        removed = word_removal(model, processor, row["image"], row["note"])
        for kind, chosen in (("words of place", True), ("other words", False)):
            changes = [change for word, change in removed
                       if any(map(str.isalnum, word)) and (word.lower() in PLACES) == chosen]  # fmt: skip
            if changes:
                values[f"mask changed without {kind}"].append(statistics.mean(changes))
        if len(values["truth's share of the image"]) == count:
            break
    return {
        "images": len(values["truth's share of the image"]),
        "values": {name: statistics.mean(numbers) for name, numbers in values.items()},
        "maps": {name: {what: statistics.mean(numbers) for what, numbers in row.items()}
                 for name, row in maps_values.items()},
    }  # fmt: skip


def _above(map_: np.ndarray, inside: np.ndarray) -> float:
    """How often a pixel of the truth has more than one outside of it: 0.5 is chance."""
    from scipy.stats import rankdata

    ranks, number = rankdata(map_.ravel()), int(inside.sum())
    return float((ranks[inside.ravel()].sum() - number * (number + 1) / 2) / (number * (inside.size - number)))


def collect(name: str, model: str, dataset: str, args: argparse.Namespace) -> None:
    """Runs what is not there yet."""
    from reclmis import RecLMISModel, RecLMISProcessor
    from reclmis.cli import main as reclmis
    from reclmis.data import load_dataset_by_name
    from reclmis.files import replacing
    from reclmis.training.record import run_record

    folder = FOLDER / name
    same = [
        model,
        "--dataset",
        dataset,
        *(["--num-synthetic", str(args.num_synthetic)] if dataset == "synthetic" else []),
    ]
    commands = {"evaluate": ["--surfaces"], "certify": _floor(args.image_only),
                "robustness": ["--shift", *args.shift] if args.shift else []}  # fmt: skip
    for command, more in commands.items():
        written = {"evaluate": "evaluation", "certify": "certificate"}.get(command, command)
        if not (folder / written / f"{written}.json").is_file() and reclmis(
            [command, *same, *more, "--output", str(folder / written)]
        ):
            raise SystemExit(f"reclmis {command} failed for {name}; see above.")
    path = folder / "explanations.json"
    if path.is_file():
        return
    loaded: Any = RecLMISModel.from_pretrained(model)
    options = (
        {
            "num_train": args.num_synthetic,
            "num_validation": args.num_synthetic // 4,
            "seed": 0,
            "size": loaded.config.image_size,
        }
        if dataset == "synthetic"
        else {"splits": ["validation"]}
    )
    split = load_dataset_by_name(dataset, **options)["validation"]
    result = explanations(loaded.eval(), RecLMISProcessor.from_pretrained(model), split, args.explained)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(run_record(0, **result), indent=1) + "\n")


def _floor(image_only: str | None) -> list[str]:
    return [] if image_only is None else ["--image-only", image_only]


def section(folder: Path) -> str:
    from reclmis.evaluation.certificate_report import certificate_body
    from reclmis.evaluation.markdown import markdown_table
    from reclmis.evaluation.report import circumstances, read_report
    from reclmis.evaluation.report_tables import strata_tables, summary_table
    from reclmis.evaluation.robustness_report import circumstances as robustness_circumstances
    from reclmis.evaluation.robustness_report import robustness_tables

    lines = [f"## {folder.name}", ""]
    if (path := folder / "evaluation" / "evaluation.json").is_file():
        report = read_report(path)
        size = next(iter(report["results"]))
        tables = [summary_table(report, size), *strata_tables(report, size)]
        lines += [*(markdown_table(table, 3) for table in tables), *(f"- {fact}" for fact in circumstances(report)), ""]
    if (path := folder / "certificate" / "certificate.json").is_file():
        lines += ["### Text dependence", "", certificate_body(json.loads(path.read_text()), 4)]
    if (path := folder / "robustness" / "robustness.json").is_file():
        report = json.loads(path.read_text())
        lines += ["### Robustness", "", *(markdown_table(table, 4) for table in robustness_tables(report)),
                  *(f"- {fact}" for fact in robustness_circumstances(report)), ""]  # fmt: skip
    if (path := folder / "explanations.json").is_file():
        lines += ["### Explanations", "", explained(json.loads(path.read_text()))]
    return "\n".join(lines)


def explained(result: dict[str, Any]) -> str:
    values = result["values"]
    lines = ["| map | of its sum inside the truth | ranks the truth above the rest | deletion | insertion "
             "| similar when randomised |", "|---|---|---|---|---|---|"]  # fmt: skip
    for name, row in result["maps"].items():
        lines.append(f"| {MAPS[name]} | {100 * row['inside the truth']:.0f} % | {row['ranks the truth']:.2f} | "
                     f"{row['deletion']:.2f} | {row['insertion']:.2f} | {row['similar when randomised']:.2f} |")  # fmt: skip
    share = 100 * values["truth's share of the image"]
    lines.append(
        f"| *by chance* | {share:.0f} % | 0.50 | {values['random deletion']:.2f} | {values['random insertion']:.2f} | |"
    )
    others = "; ".join(f"{name} {100 * value:.0f} %" for name, value in values.items()
                       if not name.startswith(("random", "truth")))  # fmt: skip
    lines.append(f"\nMeans over {result['images']} validation images. Areas under the curves of the mask's probability: low "
                 "is good for deletion, high for insertion. Similar when randomised: rank correlation with the map of a "
                 f"network whose weights are all drawn anew. {others[0].upper()}{others[1:]}.\n")  # fmt: skip
    return "\n".join(lines)


def write_report() -> None:
    path = Path(__file__).resolve().parent / "EVIDENCE.md"
    before, mark, _ = path.read_text().partition(MARK)
    if not mark:
        raise SystemExit(f"{path.name} has no {MARK} after which the tables go.")
    sections = [section(folder) for folder in sorted(FOLDER.iterdir()) if folder.is_dir()]
    path.write_text("\n".join([f"{before}{MARK}\n", *sections]).rstrip() + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="append", default=[], metavar="NAME=MODEL=DATASET")
    parser.add_argument("--num_synthetic", type=int, default=1000, help="as in the training")
    parser.add_argument("--explained", type=int, default=30, help="validation images whose explanations are counted")
    parser.add_argument("--image_only", help="a checkpoint trained with one note for all, for the floor")
    parser.add_argument("--shift", nargs="*", default=[], help="other datasets")
    parser.add_argument("--report", action="store_true", help="write EVIDENCE.md")
    args = parser.parse_args()
    for run in args.run:
        collect(*run.split("="), args)
    if args.report:
        write_report()


if __name__ == "__main__":
    main()
