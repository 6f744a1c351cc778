"""An evaluation's report as tables of words, which Markdown and HTML write down alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .metrics import SCORES
from .scores import SURFACES

TITLES = {
    "dice": "Dice", "iou": "IoU", "sensitivity": "Sensitivity", "precision": "Precision",
    "hd95": "Hausdorff distance, 95 %", "assd": "Average symmetric surface distance",
}  # fmt: skip
# Where a column has no room.
SHORT = {"hd95": "HD95", "assd": "ASSD"}
FAMILIES = {"per_image": "per image", "pooled": "pooled"}
STRATA = {
    "size": "By size of the truth",
    "quartile": "By size of the truth, quarters of this split",
    "areas": "By connected areas of the truth",
}
SIZES = {"native": "at the images' own size", "model": "at the size that the model sees"}


@dataclass(frozen=True)
class Table:
    """Rows have as many cells as the header."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def summary_table(report: Mapping[str, Any], size: str) -> Table:
    """Each metric in both families, with its interval."""
    result = report["results"][size]
    summary, intervals = result["summary"], result["confidence"]["intervals"]
    level = f"{100 * result['confidence']['level']:g} %"
    rows = []
    for name in (*SCORES, *SURFACES):
        if f"{name}_per_image" in summary:
            cells = [_with_interval(intervals.get(f"{name}_{family}"), name) for family in FAMILIES]
            rows.append([f"{TITLES[name]}, {_unit(name, report)}", *cells])
    for name in SCORES:
        for key in (key for key in summary if key.startswith(f"{name}_per_image_class")):
            number = key.rpartition("class")[2]
            pooled = summary[f"{name}_pooled_class{number}"]
            rows.append([f"{TITLES[name]} of class {number}, %", _number(summary[key], name), _number(pooled, name)])
    return Table(f"Scores {SIZES[size]}", ["", f"per image ({level} interval)", f"pooled ({level} interval)"], rows)


def strata_tables(report: Mapping[str, Any], size: str) -> list[Table]:
    """One table for each way to part the split; ways that leave it whole are left out."""
    columns = [(name, family) for name in ("dice", "iou") for family in FAMILIES]
    columns += [("hd95", "per_image")] if report["surfaces"] else []
    header = ["", "truth", "images", *(_titled(name, family, report) for name, family in columns)]
    tables = []
    for key, title in STRATA.items():
        strata = report["results"][size]["strata"][key]
        if sum(stratum["images"] > 0 for stratum in strata) < 2:
            continue
        rows = [
            [stratum["name"], stratum["bounds"], str(stratum["images"]),
             *(_number(stratum.get(f"{name}_{family}"), name) for name, family in columns)]
            for stratum in strata
        ]  # fmt: skip
        tables.append(Table(title, header, rows))
    return tables


def comparison_table(report: Mapping[str, Any], size: str) -> Table | None:
    """This model and the other one; `None` where nothing is compared at this size."""
    if report["comparison"] is None or size not in report["comparison"]["results"]:
        return None
    comparison = report["comparison"]["results"][size]
    rows = []
    for key, row in comparison["differences"].items():
        name, _, family = key.partition("_")
        better = "" if row["p"] is None else f"{row['wins']} / {row['ties']} / {row['losses']}"
        rows.append([
            _titled(name, family, report), _number(row["first"], name), _number(row["second"], name),
            _with_interval(row["difference"], name, signed=True), _p_value(row["p"]), better,
        ])  # fmt: skip
    level = f"{100 * comparison['level']:g} %"
    header = ["", "this model", "the other", f"difference ({level} interval)", "p", "better / equal / worse"]
    return Table(f"Against {report['comparison']['other']}, {SIZES[size]}", header, rows)


def _titled(name: str, family: str, report: Mapping[str, Any]) -> str:
    return f"{SHORT.get(name, TITLES[name])} {FAMILIES[family]}, {_unit(name, report)}"


def _unit(name: str, report: Mapping[str, Any]) -> str:
    return report["unit"] if name in SURFACES else "%"


def _with_interval(interval: Mapping[str, float] | None, name: str, *, signed: bool = False) -> str:
    if interval is None:
        return ""
    estimate, low, high = (_number(interval[key], name, signed=signed) for key in ("estimate", "low", "high"))
    return f"{estimate} ({low} to {high})"


def _number(value: float | None, name: str, *, signed: bool = False) -> str:
    if value is None:
        return ""
    shown = round(value if name in SURFACES else 100 * value, 1)
    if not shown:
        return "0.0"  # without a sign
    return f"{shown:{'+' if signed else ''}.1f}"


def _p_value(p: float | None) -> str:
    if p is None:
        return ""
    return "below 0.001" if p < 0.001 else f"{p:.3f}"


__all__ = ["SIZES", "TITLES", "Table", "comparison_table", "strata_tables", "summary_table"]
