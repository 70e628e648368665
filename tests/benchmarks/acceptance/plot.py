"""The results as a picture: the denoiser's error by arm, seed by seed, for each case."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from tests.benchmarks.acceptance.cases import CASES
from tests.benchmarks.acceptance.outcomes import Outcome, Outcomes

_GREY, _BLUE, _RED, _RULE = "#70757d", "#1f6fb4", "#c8443a", "#e6e8eb"
_TITLE = "Error of the denoiser against the exact one, by arm. In brackets: compute, in units of the shortest DSM run"
_ROWS = (CASES[:2], CASES[2:])


def draw(outcomes: Outcomes, path: Path) -> None:
    """Write a PNG with a panel for each case; all have the same scale, so that distances can be compared."""
    by_case = {case: [each for each in outcomes.values() if each.arm.case == case] for case in CASES}
    heights = [max(len(by_case[case]) for case in cases) for cases in _ROWS]
    decades = 1.15 * max(_decades(of_case) for of_case in by_case.values())
    figure = Figure(figsize=(13, 0.36 * sum(heights) + 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    head, *rows = cast(
        Sequence[SubFigure], figure.subfigures(3, 1, height_ratios=[1.9, *(height + 2.6 for height in heights)])
    )
    head.suptitle(_TITLE, fontsize=12, y=0.98)
    head.legend(handles=_legend(), loc="lower center", ncols=6, frameon=False, fontsize=9)
    for row, cases, height in zip(rows, _ROWS, heights, strict=True):
        for axes, case in zip(row.subplots(1, len(cases)), cases, strict=True):
            _panel(axes, by_case[case], height=height, decades=decades)
    figure.savefig(path, dpi=130)


def _panel(axes: Axes, outcomes: Sequence[Outcome], *, height: int, decades: float) -> None:
    case = outcomes[0].arm.case
    plain = [outcome for outcome in outcomes if outcome.arm.term is None]
    for place, outcome in enumerate(outcomes):
        values, colour = outcome.measured[case.headline], _colour(outcome)
        axes.scatter(values, [place] * len(values), s=24, color=colour, alpha=0.65, linewidths=0, zorder=3)
        axes.vlines(outcome.mean(case.headline), place - 0.34, place + 0.34, color=colour, linewidth=2.2, zorder=4)
    for outcome, style in ((plain[0], "--"), (_three_times(plain), ":")):
        axes.axvline(outcome.mean(case.headline), color=_GREY, linestyle=style, linewidth=1.1)
    axes.set_yticks(range(len(outcomes)), [_label(outcome, plain[0]) for outcome in outcomes])
    axes.set_ylim(height - 0.4, -0.6)
    _logarithmic(axes, outcomes, decades)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(case.heading, fontsize=10.5, loc="left")
    where = "where DSM is silent" if case.hidden else "at all noise levels"
    axes.set_xlabel(f"{case.headline}: error {where}", fontsize=9)
    axes.tick_params(labelsize=8.5, length=2.5)


def _logarithmic(axes: Axes, outcomes: Sequence[Outcome], decades: float) -> None:
    low, high = _range(outcomes)
    middle, half = math.sqrt(low * high), 10 ** (decades / 2)
    axes.set_xscale("log")
    axes.set_xlim(middle / half, middle * half)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="x", color=_RULE, linewidth=0.8)
    axes.set_axisbelow(True)


def _range(outcomes: Sequence[Outcome]) -> tuple[float, float]:
    values = [value for outcome in outcomes for value in outcome.measured[outcome.arm.case.headline]]
    return min(values), max(values)


def _decades(outcomes: Sequence[Outcome]) -> float:
    low, high = _range(outcomes)
    return math.log10(high / low)


def _label(outcome: Outcome, shortest: Outcome) -> str:
    return f"{outcome.arm.name}  [{outcome.compute / shortest.compute:.2g}]"


def _three_times(plain: Sequence[Outcome]) -> Outcome:
    return min(plain, key=lambda each: abs(each.compute - 3 * plain[0].compute))


def _colour(outcome: Outcome) -> str:
    if outcome.arm.squared:
        return _RED
    return _BLUE if outcome.arm.term else _GREY


def _legend() -> list[Line2D]:
    dots = {"DSM alone": _GREY, "with consistency": _BLUE, "wrong estimator": _RED}
    lines: dict[str, Literal["--", ":"]] = {"DSM, shortest run": "--", "DSM, three times the compute": ":"}
    return [
        *(Line2D([], [], color=colour, marker="o", linestyle="", label=label) for label, colour in dots.items()),
        Line2D([], [], color="black", marker="|", markersize=11, markeredgewidth=2, linestyle="", label="mean"),
        *(Line2D([], [], color=_GREY, linestyle=style, label=label) for label, style in lines.items()),
    ]
