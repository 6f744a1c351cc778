"""A report as one HTML file that needs nothing else: no script, no network, pictures inside."""

import base64
import io
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from .cases import Case
from .report_tables import Table

TEMPLATE = Path(__file__).resolve().parents[1] / "templates" / "evaluation.html"
# Longer side of a picture in pixels.
SIDE = 360
# Of the histogram's drawing, in its own units.
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 640, 210, 40, 36, 26


def render_html(
    report: Mapping[str, Any],
    tables: Sequence[Table],
    cases: Mapping[str, Sequence[Case]],
    circumstances: Sequence[str],
    sizes: Mapping[str, str],
) -> str:
    """The page. Whatever comes from data, such as notes and ids, is escaped.

    Args:
        report: of [`reclmis.evaluation.report.build_report`].
        tables, circumstances: what it says.
        cases: pictures by kind.
        sizes: what to call the size that was scored.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    shown = {
        kind: [
            {"score": case.score, "image": picture_uri(case.image), "agreement": picture_uri(case.agreement)}
            for case in chosen
        ]
        for kind, chosen in cases.items()
    }
    return template.render(
        report=report,
        tables=tables,
        histogram=histogram(report["results"][report["scored_at"]]),
        cases=shown,
        circumstances=circumstances,
        scored=sizes[report["scored_at"]],
    )


def picture_uri(picture: Image.Image, side: int = SIDE) -> str:
    """A picture inside of the address that shows it, as PNG, its longer side at most `side` pixels."""
    small = picture.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    small.save(content, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def histogram(result: Mapping[str, Any]) -> dict[str, Any]:
    """Where the bars of the images' Dice, the grid and the median go, in a drawing of `width` x `height`."""
    counts, edges = result["dice_histogram"]["images"], result["dice_histogram"]["edges"]
    top = max(_round_up(max(counts)), 1)
    plot = _WIDTH - _LEFT - 10

    def x(dice: float) -> float:
        return round(_LEFT + plot * dice, 1)

    def y(images: float) -> float:
        return round(_HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * images / top, 1)

    bars = [
        {"x": x(low) + 1, "y": y(count), "width": round(x(high) - x(low) - 2, 1), "height": round(y(0) - y(count), 1),
         "said": f"Dice {100 * low:.0f} to {100 * high:.0f} %: {count} images"}
        for count, low, high in zip(counts, edges, edges[1:], strict=False) if count
    ]  # fmt: skip
    median = statistics.median(image["dice"] for image in result["evaluation"]["images"])
    ticks = sorted({0, top // 2, top})
    return {
        "width": _WIDTH,
        "height": _HEIGHT,
        "left": _LEFT,
        "right": x(1),
        "base": y(0),
        "top": y(top),
        "said_at": y(top) - 12,
        "bars": bars,
        "columns": [{"x": x(share / 4), "said": f"{25 * share}"} for share in range(5)],
        "rows": [{"y": y(tick), "said": str(tick)} for tick in ticks],
        "median": {
            "x": x(median),
            "said": f"median {100 * median:.1f}",
            "anchor": "end" if median > 0.5 else "start",
            "text_x": x(median) + (-5 if median > 0.5 else 5),
        },
    }


def _round_up(count: int) -> int:
    """To an even number of few digits, so that the grid's numbers are whole."""
    step = next(step for step in (2, 4, 10, 20, 50, 100, 200, 500, 1000, 10**9) if count <= 5 * step)
    return -(-count // step) * step


__all__ = ["histogram", "picture_uri", "render_html"]
