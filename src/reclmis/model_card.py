"""Model cards: what a model is, what was measured and how, what its data allow, and what it must not be used for."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .configuration_reclmis import RecLMISConfig
from .evaluation.certificate_report import certificate_body
from .profiling import Cost
from .training.record import portable_command

TEMPLATE = Path(__file__).parent / "templates" / "model_card.md"
FAMILIES = {"per_image": "per image", "pooled": "pooled"}
METRICS = {"dice": "Dice", "iou": "IoU", "sensitivity": "Sensitivity", "precision": "Precision", "hd95": "HD95",
           "assd": "ASSD"}  # fmt: skip
# These are lengths, in the evaluation's unit, and no shares.
LENGTHS = ("hd95", "assd")
TERMS = {
    "qata-cov19": "QaTa-COV19 (Degerli et al.) with notes by LViT (Li et al.): research use; cite both.",
    "mosmeddata+": "MosMedData+ (Morozov et al., Roy et al.) with notes by LViT (Li et al.): research use; cite them.",
    "monuseg": "MoNuSeg (Kumar et al.), CC BY-NC-SA 4.0, with notes by LViT (Li et al.): no commercial use; cite both.",
    "synthetic": "Drawn by this library: no restriction.",
}
_EVALUATION_KEYS = ("dataset", "split", "images", "sha256", "seed", "command", "metrics")
_RUN_KEYS = ("command", "seed", "versions", "data")
_COUNTS = ("images", "notes_changed")
_MAIN_ROW = "right"
_CLASS = re.compile(r"_class\d+$")


def build_model_card(
    repo_id: str,
    config: RecLMISConfig,
    cost: Cost,
    *,
    training_parameters: int | None = None,
    evaluation: Mapping[str, Any] | None = None,
    run: Mapping[str, Any] | None = None,
    license: str | None = None,
    data_terms: str | None = None,
    template: str | Path = TEMPLATE,
    certificate: Mapping[str, Any] | None = None,
) -> ModelCard:
    """Writes the card of a model.

    Args:
        repo_id: `org/name`, as users will load it.
        config: the model's.
        cost: of the model as it predicts, see [`reclmis.profiling.count_cost`].
        training_parameters: of the whole model, where the checkpoint holds them.
        evaluation: what `reclmis evaluate` or `examples/evaluate.py --output` wrote; `None` says that nothing was measured.
        run: what training wrote to `run.json`.
        license: identifier of the Hub, such as `"apache-2.0"`.
        data_terms: terms of the training data; those of known datasets are filled in.
        template: Jinja template of the card.
        certificate: what `reclmis certify` wrote: whether the mask follows the note.

    Raises:
        ValueError: an evaluation or run that lacks what a reader needs, or a metric that does not say its family.
    """
    if evaluation is not None:
        check_evaluation(evaluation)
    if run is not None:
        _require(run, _RUN_KEYS, "the record of the training (`run.json`)")
    dataset = _dataset_name(evaluation, run)
    data = ModelCardData(
        model_name=repo_id.split("/")[-1],
        library_name="reclmis",
        pipeline_tag="image-segmentation",
        tags=["reclmis", "medical", "language-guided-segmentation", "image-segmentation"],
        license=license,
        eval_results=None if evaluation is None else eval_results(evaluation),
    )
    rows = [] if evaluation is None else list(evaluation["metrics"])
    return ModelCard.from_template(
        data,
        template_path=str(template),
        name=repo_id.split("/")[-1],
        repo_id=repo_id,
        config=config,
        cost=_rounded(cost, training_parameters),
        evaluation=evaluation,
        evaluation_command="" if evaluation is None else portable_command(evaluation["command"]),
        table="" if evaluation is None else metrics_table(evaluation["metrics"], evaluation.get("unit", "pixels")),
        depends=len(rows) > 1,
        certificate="" if certificate is None else certificate_body(certificate, level=3),
        run=run,
        run_command="" if run is None else portable_command(run["command"]),
        versions="" if run is None else ", ".join(f"{name} {number}" for name, number in run["versions"].items()),
        terms=data_terms or TERMS.get(dataset, "not stated; ask the publisher."),
        example_note="Bilateral pulmonary infection, upper left lung and lower right lung.",
    )


def check_evaluation(evaluation: Mapping[str, Any]) -> None:
    """Whether an evaluation says all that a figure needs to be compared.

    Raises:
        ValueError: no dataset, split, hash, seed, command or metrics, or a metric without family.
    """
    _require(evaluation, _EVALUATION_KEYS, "the evaluation")
    if _MAIN_ROW not in evaluation["metrics"]:
        raise ValueError(
            f"The evaluation has no row {_MAIN_ROW!r} (true notes), only {', '.join(evaluation['metrics'])}."
        )
    for row, metrics in evaluation["metrics"].items():
        for name in metrics:
            if name not in _COUNTS and _family(name) is None:
                raise ValueError(
                    f"The metric {name!r} (row {row!r}) does not say its family. Name it {name}_per_image (mean over "
                    f"images) or {name}_pooled (one count over the set): the two differ by several points."
                )


def eval_results(evaluation: Mapping[str, Any]) -> list[EvalResult]:
    """Entries of the model-index: one per metric under the true notes, its family in its name."""
    results = []
    for name, value in evaluation["metrics"][_MAIN_ROW].items():
        family = _family(name, evaluation.get("unit", "pixels"))
        if family is None:
            continue
        metric, title = family
        results.append(
            EvalResult(
                task_type="image-segmentation",
                task_name="language-guided segmentation",
                dataset_type=_slug(evaluation["dataset"]),
                dataset_name=str(evaluation["dataset"]),
                dataset_split=evaluation["split"],
                dataset_args={"sha256": evaluation["sha256"], "images": evaluation["images"]},
                metric_type=metric,
                metric_name=title,
                metric_value=float(value),
                metric_args={"seed": evaluation["seed"], "command": portable_command(evaluation["command"])},
            )
        )
    return results


def metrics_table(metrics: Mapping[str, Mapping[str, float]], unit: str = "pixels") -> str:
    """A Markdown table, a row per kind of note and a column per metric, in percent, or in `unit` for surface distances.
    Metrics of one class are left to the model-index."""
    names = [name for name in metrics[_MAIN_ROW] if name not in _COUNTS and not _CLASS.search(name)]
    titles = [_family(name, unit)[1] for name in names]  # type: ignore[index]
    lines = ["| note | " + " | ".join(titles) + " |", "|---" * (len(names) + 1) + "|"]
    for row, values in metrics.items():
        cells = [f"{_shown(name, values[name]):.1f}" if name in values else "" for name in names]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _family(name: str, unit: str = "pixels") -> tuple[str, str] | None:
    """`"dice_per_image"` -> `("dice", "Dice (per image)")`, `"hd95_per_image"` -> `("hd95", "HD95 (per image, pixels)")`;
    `None` where the family is missing."""
    match = re.fullmatch(rf"(\w+?)_({'|'.join(FAMILIES)})(?:_class(\d+))?", name)
    if match is None:
        return None
    metric, family, number = match.groups()
    said = [FAMILIES[family], *([f"class {number}"] if number else []), *([unit] if metric in LENGTHS else [])]
    return metric, f"{METRICS.get(metric, metric)} ({', '.join(said)})"


def _shown(name: str, value: float) -> float:
    return value if name.partition("_")[0] in LENGTHS else 100 * value


def _require(record: Mapping[str, Any], keys: tuple[str, ...], what: str) -> None:
    absent = [key for key in keys if key not in record]
    if absent:
        raise ValueError(f"A card needs {', '.join(absent)}, which {what} lacks. Write it anew with this library.")


def _dataset_name(evaluation: Mapping[str, Any] | None, run: Mapping[str, Any] | None) -> str:
    if run is not None and (trained := (run.get("arguments") or {}).get("dataset")):
        return Path(str(trained)).name.lower()
    return "" if evaluation is None else str(evaluation["dataset"]).lower()


def _slug(name: Any) -> str:
    return re.sub(r"[^a-z0-9]+", "-", str(name).lower()).strip("-")


def _rounded(cost: Cost, training_parameters: int | None) -> dict[str, str | None]:
    return {
        "millions": f"{cost.parameters / 1e6:.1f}",
        "text_millions": f"{cost.text_parameters / 1e6:.1f}",
        "whole_millions": None if training_parameters is None else f"{training_parameters / 1e6:.1f}",
        "gmacs": f"{(cost.macs + cost.text_macs) / 1e9:.2f}",
        "gflops": f"{cost.flops / 1e9:.2f}",
    }


__all__ = ["build_model_card", "check_evaluation", "eval_results", "metrics_table"]
