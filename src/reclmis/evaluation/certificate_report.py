"""A certificate as a person reads it: one table of rows, one of verdicts, and how all of it was measured."""

from collections.abc import Mapping
from typing import Any

from ..training.record import portable_command
from .certificate import METRICS
from .markdown import markdown_table, plain
from .report_tables import Table
from .statistics import FEW_CLUSTERS

KEYS = ("model", "dataset", "split", "sha256", "command", "images", "seed", "intervals", "rows", "floors", "verdicts",
        "warnings")  # fmt: skip
_TITLES = {"dice_per_image": "Dice per image", "dice_pooled": "Dice pooled", "iou_per_image": "IoU per image",
           "iou_pooled": "IoU pooled"}  # fmt: skip
_HEADER = ["asked with", "images", *(_TITLES[name] for name in METRICS), "Dice lost", "against the region described",
           "inside the zones named", "same mask", "empty"]  # fmt: skip
_SOURCES = {
    "exact": "what the image shows of that, which the dataset tells",
    "text_only": "what the text-only predictor answers to the altered note, without the image",
    "zones": "the zones that it names",
}


def check_certificate(certificate: Mapping[str, Any]) -> None:
    """Whether a certificate says all that a reader needs.

    Raises:
        ValueError: what is missing.
    """
    absent = [key for key in KEYS if key not in certificate]
    if absent:
        raise ValueError(f"The certificate has no {', '.join(absent)}. Write it anew with `reclmis certify`.")


def certificate_table(certificate: Mapping[str, Any]) -> Table:
    """A row per kind of note and per floor, in percent."""
    rows = [_row(row) for row in certificate["rows"].values()]
    return Table(
        "Asked with other notes", _HEADER, [*rows, *(_floor(floor) for floor in certificate["floors"].values())]
    )


def verdict_table(certificate: Mapping[str, Any]) -> Table:
    rows = [[line["claim"], line["answer"], line["numbers"]] for line in certificate["verdicts"]]
    return Table("What that shows", ["the model ...", "", "numbers"], rows)


def certificate_body(certificate: Mapping[str, Any], level: int = 2) -> str:
    """Warnings, both tables and the circumstances, in Markdown, with headings from this level on.

    Raises:
        ValueError: see [`check_certificate`].
    """
    check_certificate(certificate)
    verdicts, rows = verdict_table(certificate), certificate_table(certificate)
    criteria: dict[str, list[str]] = {}
    for line in certificate["verdicts"]:
        criteria.setdefault(line["criterion"], []).append(line["claim"])
    lines = [f"**{plain(sentence)}**\n" for sentence in certificate["warnings"]]
    lines += [markdown_table(verdicts, level), ""]
    lines += [f"- {plain(', '.join(claims))}: {plain(criterion)}." for criterion, claims in criteria.items()]
    lines += ["", markdown_table(rows, level), "", f"{'#' * level} How this was measured", ""]
    return "\n".join([*lines, *(f"- {plain(sentence)}" for sentence in circumstances(certificate))]) + "\n"


def certificate_markdown(certificate: Mapping[str, Any]) -> str:
    """The certificate as a page of its own.

    Raises:
        ValueError: see [`check_certificate`].
    """
    check_certificate(certificate)
    title = f"# Does the mask follow the note? {plain(certificate['model'])} on {plain(certificate['dataset'])}"
    return f"{title}, {plain(certificate['split'])}\n\n{certificate_body(certificate)}"


def circumstances(certificate: Mapping[str, Any]) -> list[str]:
    """How the figures came about, a sentence each."""
    rows, drawn = certificate["rows"], certificate["intervals"]
    found = [
        f"Split: {certificate['dataset']}, {certificate['split']}, {certificate['images']} images, content sha256 "
        f"{certificate['sha256']}. All figures are percent, at the images' own size.",
        "Per image: the mean over images. Pooled: one count of all pixels of the set.",
        "Every row is about the images whose note can be altered so. Dice lost: per image, under the true note minus under "
        "the altered one, of the same images. Same mask: Dice per image between the two masks. Empty: share of images in "
        "which nothing is marked.",
        "Arrows: the same figure for the answer to the true note, and to the altered one.",
    ]
    sources = {row["described"]["by"] for row in rows.values() if "described" in row and row["claim"] != "absent"}
    for by in sorted(sources):
        found.append(f"Against the region described: Dice per image with {_SOURCES[by]}.")
    if rows["contradicting"].get("described"):
        found.append("Of places where the image shows nothing, the region described is empty: Dice is 1 where nothing is "
                     "marked, else 0.")  # fmt: skip
    if any("inside_zones" in row for row in rows.values()):
        found.append("Inside the zones named: mean share of the marked pixels within the boxes of the zones that the note "
                     "names, over images in which both answers mark something.")  # fmt: skip
    for row in rows.values():
        if row["left_out_images"]:
            found.append(f"{row['what'].capitalize()}: {row['left_out_images']} of {certificate['images']} images are "
                         f"left out ({row['left_out']}).")  # fmt: skip
        if row.get("notes_cut"):
            found.append(
                f"{row['what'].capitalize()}: {row['notes_cut']} notes are longer than the model reads, and cut."
            )
    clusters = f"{drawn['patients']} known patients and {drawn['clusters'] - drawn['patients']} images without one"
    found.append(f"Intervals: {100 * drawn['level']:g} %, percentile bootstrap, {drawn['resamples']} draws of "
                 f"{clusters if drawn['patients'] else 'images, as no patient is known'}.")  # fmt: skip
    if drawn["clusters"] < FEW_CLUSTERS:
        found.append(f"Intervals over {drawn['clusters']} patients or images are narrower than they should be.")
    found.append(f"Command: {portable_command(certificate['command'])}, seed {certificate['seed']}, commit "
                 f"{certificate.get('commit') or 'unknown'}.")  # fmt: skip
    return found


def _row(row: Mapping[str, Any]) -> list[str]:
    left_out = row["left_out_images"]
    counted = f"{row['images']} of {row['images'] + left_out}" if left_out else str(row["images"])
    if not row["images"]:
        return [row["what"], counted, *["not possible"], *[""] * (len(_HEADER) - 3)]
    described, inside = row.get("described"), row.get("inside_zones")
    lost = _with_interval(row["lost"]) if "lost" in row else ""
    same = _number(row["same_mask_dice_per_image"]) if "same_mask_dice_per_image" in row else ""
    return [row["what"], counted, *(_number(row[name]) for name in METRICS), lost, _arrow(described), _arrow(inside), same,
            _number(row["empty"])]  # fmt: skip


def _floor(floor: Mapping[str, Any]) -> list[str]:
    name = f"floor: {floor['what']}"
    if "why" in floor:
        return [name, "", f"not measured: {floor['why']}", *[""] * (len(_HEADER) - 3)]
    return [name, "", *(_number(floor[metric]) for metric in METRICS), _with_interval(floor["above"]), *[""] * 4]


def _arrow(moved: Mapping[str, Any] | None) -> str:
    return "" if moved is None else f"{_number(moved['before'])} → {_number(moved['after'])}"


def _with_interval(interval: Mapping[str, float]) -> str:
    return f"{_number(interval['estimate'])} ({_number(interval['low'])} to {_number(interval['high'])})"


def _number(share: float) -> str:
    # Nothing lost is no loss of -0.0.
    return f"{round(100 * share, 1) + 0.0:.1f}"


__all__ = [
    "certificate_body",
    "certificate_markdown",
    "certificate_table",
    "check_certificate",
    "circumstances",
    "verdict_table",
]
