"""What a reader needs of an evaluation: figures with intervals, strata, and how all of it was measured."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..files import replacing
from ..training.record import portable_command
from .cases import TITLES as KINDS
from .cases import Case, choose_cases
from .html_report import render_html
from .markdown import plain
from .metrics import EMPTY_POLICY
from .predictions import ScoredAt
from .report_tables import SIZES, Table, comparison_table, strata_tables, summary_table
from .scores import Evaluation
from .statistics import FEW_CLUSTERS, Comparison, bootstrap
from .strata import strata
from .surfaces import SURFACE_POLICY

JSON, MARKDOWN, HTML = "evaluation.json", "report.md", "report.html"
BINS = 20
# The row of `metrics` under the images' own notes, as a model's card wants it.
RIGHT = "right"


def build_report(
    evaluations: Mapping[ScoredAt, Evaluation],
    record: Mapping[str, Any],
    *,
    note_kind: str = RIGHT,
    resamples: int = 2000,
    other: str | None = None,
    comparisons: Mapping[ScoredAt, Comparison] | None = None,
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """All of a report but its pictures, for JSON. `reclmis push --evaluation` takes it for a model's card.

    Args:
        evaluations: of one model on one split, at one or both sizes; the first is the one that `metrics` has.
        record: of [`reclmis.training.record.run_record`], with `model`, `dataset`, `split`, `sha256` and `seed`, which is
            the bootstrap's as well.
        note_kind: the row of `metrics`: `"right"` for the images' own notes.
        resamples: of the bootstrap.
        other, comparisons: the model that this one was compared with, and how.
        warnings: sentences that a reader must see first.

    Raises:
        ValueError: no evaluation, or a record that lacks what a figure needs.
    """
    absent = [
        key for key in ("command", "seed", "versions", "model", "dataset", "split", "sha256") if key not in record
    ]
    if absent or not evaluations:
        raise ValueError(f"A report needs {', '.join(absent) or 'an evaluation'}. See `run_record`.")
    first = next(iter(evaluations.values()))
    results = {size: _result(evaluation, resamples, record["seed"]) for size, evaluation in evaluations.items()}
    few = [row["confidence"]["clusters"] for row in results.values() if row["confidence"]["clusters"] < FEW_CLUSTERS]
    said = [*warnings]
    if few:
        said.append(
            f"Intervals over {few[0]} patients or images are narrower than they should be; read them as a hint."
        )
    return {
        **record,
        "command": portable_command(record["command"]),
        "images": len(first),
        "scored_at": first.scored_at,
        "surfaces": first.has_surfaces,
        "unit": first.unit,
        "empty_policy": {"overlap": EMPTY_POLICY, **({"surfaces": SURFACE_POLICY} if first.has_surfaces else {})},
        "warnings": said,
        "metrics": {note_kind: first.summary()},
        "results": results,
        "comparison": None if not comparisons else {
            "other": other, "results": {size: comparison.to_dict() for size, comparison in comparisons.items()}
        },
    }  # fmt: skip


def _result(evaluation: Evaluation, resamples: int, seed: int) -> dict[str, Any]:
    counts, edges = np.histogram(evaluation.values("dice"), bins=BINS, range=(0.0, 1.0))
    return {
        "summary": evaluation.summary(),
        "confidence": bootstrap(evaluation, resamples=resamples, seed=seed).to_dict(),
        "empty": {
            "truths": sum(image.truth_share == 0 for image in evaluation.images),
            "predictions": sum(image.found_nothing for image in evaluation.images),
        },
        "strata": {name: [stratum.to_dict() for stratum in found] for name, found in strata(evaluation).items()},
        "dice_histogram": {"edges": edges.round(4).tolist(), "images": counts.tolist()},
        "evaluation": evaluation.to_dict(),
    }


def evaluations_of(report: Mapping[str, Any]) -> dict[ScoredAt, Evaluation]:
    """The evaluations that a report was built from, by size.

    Raises:
        ValueError: no report of this library.
    """
    try:
        return {size: Evaluation.from_dict(result["evaluation"]) for size, result in report["results"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("This is no report of `reclmis evaluate`: it has no evaluation. Write it anew.") from error


def read_report(path: str | Path) -> dict[str, Any]:
    """The report in a JSON file, or in the folder that `reclmis evaluate` wrote.

    Raises:
        FileNotFoundError: none there.
        ValueError: no report of this library.
    """
    path = Path(path) / JSON if Path(path).is_dir() else Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No report at {path}.")
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}. Write it anew.") from error
    evaluations_of(report)
    return report


def tables_of(report: Mapping[str, Any]) -> list[Table]:
    """Scores and comparison at every size, strata at the first."""
    sizes = list(report["results"])
    tables = [summary_table(report, size) for size in sizes]
    compared = [comparison_table(report, size) for size in sizes]
    return [*tables, *(table for table in compared if table is not None), *strata_tables(report, sizes[0])]


def circumstances(report: Mapping[str, Any]) -> list[str]:
    """How the figures came about, a sentence each."""
    result = report["results"][report["scored_at"]]
    confidence, empty = result["confidence"], result["empty"]
    drawn = f"{confidence['patients']} known patients" if confidence["patients"] else "images, as no patient is known"
    alone = confidence["clusters"] - confidence["patients"]
    also = f" and {alone} images without one" if confidence["patients"] and alone else ""
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    found = [
        f"Split: {report['dataset']}, {report['split']}, {report['images']} images, content sha256 {report['sha256']}.",
        "Per image: the mean over images. Pooled: one count of all pixels of the set. The two differ by several points and "
        "must not be compared with each other.",
        f"Empty masks, overlap: {report['empty_policy']['overlap']} Here {empty['truths']} truths and "
        f"{empty['predictions']} predictions are empty.",
        f"Intervals: percentile bootstrap, {confidence['resamples']} draws of {drawn}{also}, seed {confidence['seed']}.",
        f"Command: {report['command']}",
        f"Seed {report['seed']}, commit {report.get('commit') or 'unknown'}, {versions}.",
    ]
    if report["surfaces"]:
        found.insert(3, f"Empty masks, surfaces: {report['empty_policy']['surfaces']}")
    if report["comparison"] is not None:
        found.insert(-2, "Comparison: the difference is this model minus the other, on the same draws; p of a two-sided "
                     "Wilcoxon signed rank test over patients, not corrected for the number of metrics.")  # fmt: skip
    return found


def markdown(report: Mapping[str, Any]) -> str:
    """The report in Markdown, without pictures."""
    lines = [f"# {plain(report['model'])} on {plain(report['dataset'])}, {plain(report['split'])}", ""]
    for sentence in report["warnings"]:
        lines += [f"**{plain(sentence)}**", ""]
    for table in tables_of(report):
        lines += [f"## {plain(table.title)}", "", *_rows(table.header, table.rows), ""]
    evaluation = evaluations_of(report)[report["scored_at"]]
    lines += ["## Worst, median and best images", ""]
    chosen = choose_cases(evaluation)
    cases = [(kind, image.id, f"{100 * image.dice:.1f}", image.note or "") for kind in KINDS for image in chosen[kind]]
    lines += [*_rows(["", "image", "Dice, %", "note"], cases), "", "## How this was measured", ""]
    return "\n".join([*lines, *(f"- {plain(sentence)}" for sentence in circumstances(report))]) + "\n"


def write_report(folder: str | Path, report: Mapping[str, Any], cases: Mapping[str, Sequence[Case]]) -> list[Path]:
    """Writes `evaluation.json`, `report.md` and `report.html`, each whole or not at all. They hold notes, ids and
    pictures of the images: the terms of the dataset are theirs too."""
    html = render_html(report, tables_of(report), cases, circumstances(report), SIZES)
    texts = {JSON: json.dumps(report, indent=1) + "\n", MARKDOWN: markdown(report), HTML: html}
    paths = []
    for name, text in texts.items():
        with replacing(Path(folder) / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
        paths.append(Path(folder) / name)
    return paths


def _rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(plain(cell) for cell in line) + " |" for line in lines]


__all__ = ["build_report", "evaluations_of", "markdown", "read_report", "tables_of", "write_report"]
