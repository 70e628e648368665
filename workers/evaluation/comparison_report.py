"""A comparison for people: one HTML file with everything in it, and its plot."""

import io
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape

from workers.contract.comparing import Comparison
from workers.contract.document import leaves
from workers.evaluation.comparison import MetricCurve

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; color: #1c2128 }
table { border-collapse: collapse; margin: 1rem 0 } th, td { padding: .25rem .8rem; text-align: right }
th { border-bottom: 1px solid #999; font-weight: 600 } td:first-child, th:first-child { text-align: left }
img { max-width: 100% } figure { display: inline-block; margin: 0 1rem 1rem 0 } figcaption { color: #57606a }
code { background: #f0f1f3; padding: 0 .3em }
"""
_COLOURS = ("#c8443a", "#6b7280")

Pictures = Mapping[str, bytes]  # PNGs by what is written under them


def report_html(comparison: Comparison, plot: bytes | None, pictures: Pictures) -> str:
    """Everything about a comparison on one page that needs nothing else."""
    parts = [
        f"<h1>{escape(comparison.job.title)} beside {escape(comparison.control.title)}</h1>",
        _paragraphs(comparison),
        "<h2>In what they differ</h2>",
        _table(
            ("field", "control", "job"),
            [(name, json.dumps(a), json.dumps(b)) for name, (a, b) in comparison.differences.items()],
        ),
        "<h2>How it was measured</h2>",
        _table(("field", "value of both"), [(name, json.dumps(value)) for name, value in leaves(comparison.protocol)]),
        "<h2>Measures</h2>",
        _figure(plot, "") if plot else "",
        _table(
            ("measure", "at equal", "images seen", "control's", "job", "control", "difference", "95 % interval"),
            [_row(pair.model_dump()) for pair in comparison.pairs],
        ),
        "<h2>Pictures</h2>" if pictures else "",
        *(_figure(png, caption) for caption, png in pictures.items()),
    ]
    head = f"<meta charset='utf-8'><title>{escape(comparison.job.title)}</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(parts)}</body></html>"


def draw_metric_curves(
    job: Mapping[str, MetricCurve], control: Mapping[str, MetricCurve], names: Sequence[str]
) -> bytes:
    """A PNG: a row for each of these measures, by images seen on the left and by worker-seconds on the right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.2 * len(names)), dpi=100, layout="constrained")
    axes = figure.subplots(len(names), 2, squeeze=False)
    for (left, right), name in zip(axes, names, strict=True):
        for label, metric_curves, colour in (("job", job, _COLOURS[0]), ("control", control, _COLOURS[1])):
            curve = metric_curves[name]
            values = [measure.value for measure in curve.measures]
            errors = [2 * (measure.standard_error or 0.0) for measure in curve.measures]
            for axis, places in ((left, curve.images), (right, curve.seconds)):
                axis.errorbar(places, values, yerr=errors, fmt="o-", color=colour, label=label, capsize=3)
        left.set_title(name, loc="left")
        left.set_xlabel("images seen")
        right.set_xlabel("worker-seconds of steps")
        for axis in (left, right):
            axis.grid(color="#e6e8eb")
            axis.spines[["top", "right"]].set_visible(False)
        left.legend(frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _paragraphs(comparison: Comparison) -> str:
    paired = (
        "Both saw the same images in the same order, with the same noise."
        if comparison.is_paired
        else "They differ in more than what they learn by, so not all of a difference is due to it."
    )
    if len(comparison.devices) > 1:
        paired += f" Their noise differs, being drawn on different devices ({', '.join(comparison.devices)})."
    items = "".join(f"<li>{escape(line)}</li>" for line in comparison.conclusions)
    caution = (
        "Bars say how sure a figure is by itself, intervals how sure a difference is, taken share by share: both were "
        "measured with the same seeds, images and noise."
    )
    return f"<p>{escape(paired)} {caution}</p><ul>{items}</ul>"


def _row(pair: Mapping[str, object]) -> tuple[str, ...]:
    low, high = pair["low"], pair["high"]
    return (
        f"{pair['measure']}",
        f"{pair['at']}",
        f"{pair['images_seen']:,}",
        f"{pair['control_images_seen']:,.0f}",
        *(f"{pair[name]:.4g}" for name in ("job", "control", "difference")),
        f"{low:.3g} to {high:.3g}" if low is not None else "",
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return "<p>None.</p>"
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{cells}</tr>{body}</table>"


def _figure(png: bytes, caption: str) -> str:
    source = f"data:image/png;base64,{b64encode(png).decode()}"
    return f"<figure><img src='{source}' alt='{escape(caption)}'><figcaption>{escape(caption)}</figcaption></figure>"
