"""A report on robustness as a person reads it: tables, and a figure of two curves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import MissingPackageError
from ..files import replacing
from ..training.record import portable_command
from .certificate import METRICS
from .corruptions import CORRUPTIONS, SEVERITIES
from .distribution_shift import MEASURES
from .markdown import markdown_table, plain
from .report_tables import Table

# Colour-blind safe (Okabe and Ito).
_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_TITLES = {"dice_per_image": "Dice per image", "dice_pooled": "Dice pooled", "iou_per_image": "IoU per image",
           "iou_pooled": "IoU pooled"}  # fmt: skip


def robustness_tables(report: Mapping[str, Any]) -> list[Table]:
    """Corruptions, other datasets, distances, calibration; those of which something was measured."""
    tables = [_corruptions(report)] if report["corruptions"] else []
    tables.append(_domains(report))
    tables += [_shift(report)] if report["shift"]["sets"] else []
    return [*tables, _calibration(report["calibration"])]


def robustness_markdown(report: Mapping[str, Any], figure: str | None = None) -> str:
    """The report in Markdown.

    Args:
        report: of [`measure_robustness`], with `model`, `dataset`, `split`, `sha256` and `command`.
        figure: file that the page shows.
    """
    title = f"# Robustness of {plain(report['model'])} on {plain(report['dataset'])}, {plain(report['split'])}"
    said = [f"**{plain(sentence)}**\n" for sentence in report.get("warnings", [])]
    shown = [f"![Dice against severity, and reliability]({figure})\n"] if figure else []
    tables = [f"{markdown_table(table)}\n" for table in robustness_tables(report)]
    how = ["## How this was measured", "", *(f"- {plain(sentence)}" for sentence in circumstances(report))]
    return "\n".join([title, "", *said, *shown, *tables, *how]) + "\n"


def circumstances(report: Mapping[str, Any]) -> list[str]:
    """How the figures came about, a sentence each."""
    found = [
        f"Split: {report['dataset']}, {report['split']}, {report['images']} images, content sha256 {report['sha256']}. "
        "Scores are at the images' own size, under their own notes.",
        "Per image: the mean over images. Pooled: one count of all pixels of the set.",
    ]
    if report["corruptions"]:
        mean = _percent(report["mean_relative"])
        found.append(
            f"Worse images: Dice per image, in brackets as a share of the clean one; mean of all shares {mean} %."
        )
        found += [f"{name.replace('_', ' ').capitalize()}: {_first_sentence(name)}" for name in report["corruptions"]]
    if report["shift"]["sets"]:
        found += [
            f"Distances are Kolmogorov and Smirnov's, from the {report['shift']['reference']['name']}, of one number per "
            "image: 0 for equal distributions, 1 for such that do not overlap; p in brackets.",
            "Unknown words: share of the words that the reference's notes do not have. New tokens: likewise of the "
            "tokenizer's. Unknown tokens: share that the tokenizer has no piece for.",
        ]
    found += [f"{name.capitalize()}: {number} notes are longer than the model reads, and cut."
              for name, number in report["notes_cut"].items() if number]  # fmt: skip
    calibration = report["calibration"]
    found.append(
        f"Calibration: {calibration['binning']}; the temperature was fitted on {calibration['fitted_on']} images by their "
        f"ids, and all figures are of the other {calibration['reported_on']}."
    )
    found.append(f"Command: {portable_command(report['command'])}, seed {report['seed']}, commit "
                 f"{report.get('commit') or 'unknown'}.")  # fmt: skip
    return found


def robustness_figure(report: Mapping[str, Any]) -> Any:
    """Dice against severity (where corruptions were measured), and the reliability of probabilities, as a matplotlib
    `Figure`.

    Raises:
        MissingPackageError: `pip install reclmis[evaluation]` is due.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError("Figures need matplotlib: `pip install reclmis[evaluation]` brings it.") from error
    number = 2 if report["corruptions"] else 1
    figure = Figure(figsize=(5.2 * number, 4.4), dpi=130, facecolor="white", layout="constrained")
    panels = figure.subplots(1, number, squeeze=False)[0]
    if report["corruptions"]:
        _draw_severities(panels[0], report)
    _draw_reliability(panels[-1], report["calibration"])
    return figure


def save_figure(figure: Any, path: str | Path) -> Path:
    """Saves a figure, whole or not at all."""
    with replacing(path) as temporary:
        figure.savefig(temporary)
    return Path(path)


def _draw_severities(panel: Any, report: Mapping[str, Any]) -> None:
    clean = 100 * report["clean"]["dice_per_image"]
    for (name, row), colour in zip(report["corruptions"].items(), _COLOURS, strict=False):
        heights = [clean, *(100 * row[severity]["dice_per_image"] for severity in SEVERITIES)]
        panel.plot(range(len(heights)), heights, marker="o", markersize=4, color=colour, label=name.replace("_", " "))
    panel.set_xticks(range(len(SEVERITIES) + 1), ["clean", *SEVERITIES], rotation=30)
    panel.set(ylim=(0, 100), ylabel="Dice per image, %", title="Worse images")
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8, loc="lower left")


def _draw_reliability(panel: Any, calibration: Mapping[str, Any]) -> None:
    panel.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle=":", label="as it should be")
    names = {"before": "as it is", "after": f"temperature {calibration['temperature']:.2f}"}
    for (key, name), colour in zip(names.items(), _COLOURS, strict=False):
        curve = calibration[key]["curve"]
        panel.plot([row["probability"] for row in curve], [row["frequency"] for row in curve], marker="o", markersize=4,
                   color=colour, label=name)  # fmt: skip
    panel.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="foreground probability of a pixel",
              ylabel="share that is foreground", title="Reliability")  # fmt: skip
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8, loc="upper left")


def _corruptions(report: Mapping[str, Any]) -> Table:
    clean = f"clean {_percent(report['clean']['dice_per_image'])}"
    rows = [
        [name.replace("_", " "), *(f"{_percent(row[severity]['dice_per_image'])} ({_percent(row[severity]['relative'])})"
                                   for severity in SEVERITIES)]
        for name, row in report["corruptions"].items()
    ]  # fmt: skip
    return Table(f"Dice per image on worse images, % ({clean})", ["", *SEVERITIES], rows)


def _domains(report: Mapping[str, Any]) -> Table:
    sets = {report["dataset"]: {**report["clean"], "relative": 1.0}, **report["domains"]}
    rows = [[name, str(row["images"]), *(_percent(row[metric]) for metric in METRICS), _percent(row["relative"])]
            for name, row in sets.items()]  # fmt: skip
    title = "On other datasets, %" if report["domains"] else "On the images as they are, %"
    return Table(title, ["", "images", *_TITLES.values(), "Dice per image, relative"], rows)


def _shift(report: Mapping[str, Any]) -> Table:
    reference = report["shift"]["reference"]
    header = ["", "images", *(name.replace("_", " ") for name in MEASURES), *(f"distance of {name.replace('_', ' ')}"
              for name in MEASURES), "unknown words", "new tokens", "unknown tokens"]  # fmt: skip
    rows = [[reference["name"], *_described(reference), *[""] * 6]]
    for name, row in report["shift"]["sets"].items():
        distances = [row["kolmogorov_smirnov"][measure] for measure in MEASURES]
        words = ", ".join(row["most_frequent_unknown_words"][:5])
        rows.append([name, *_described(row), *(f"{found['distance']:.2f} ({found['p']:.2g})" for found in distances),
                     _percent(row["unknown_words"]) + (f" ({words})" if words else ""), _percent(row["new_tokens"]),
                     _percent(row["unknown_tokens"])])  # fmt: skip
    return Table("How far the sets lie from what the model learned from", header, rows)


def _described(row: Mapping[str, Any]) -> list[str]:
    return [str(row["images"]), *(f"{row[f'{name}_per_image']:.3f}" for name in MEASURES)]


def _calibration(calibration: Mapping[str, Any]) -> Table:
    rows = []
    for name in calibration["before"]["metrics"]:
        values = [calibration[key]["metrics"].get(name) for key in ("before", "after")]
        rows.append([name, *("" if value is None else f"{value:.4f}" for value in values)])
    return Table("Calibration", ["", "as it is", f"temperature {calibration['temperature']:.3f}"], rows)


def _first_sentence(name: str) -> str:
    """Of a corruption's description."""
    return " ".join((CORRUPTIONS[name].__doc__ or "").split()).partition(". ")[0].rstrip(".") + "."


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


__all__ = ["circumstances", "robustness_figure", "robustness_markdown", "robustness_tables", "save_figure"]
