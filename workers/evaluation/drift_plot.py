"""The measures of `drift` as a picture."""

import io
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

from workers.contract.evaluation import Level

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curves = Mapping[str, Sequence[Level]]  # by what the legend calls them

_LOSS_COLOURS, _GAP_COLOURS = ("#1f6fb4", "#e08a1e"), ("#70757d", "#c8443a", "#e08a1e")
_RULE = "#e6e8eb"
_DECADES = 6  # of gaps: what is smaller still is nothing beside them
_PLAIN = 30  # times: a range of values shorter than that is labelled in plain numbers
_SPREAD = 2  # standard errors shown to either side


def draw(loss: Curves, gap: Curves) -> bytes:
    """A PNG of 1200 x 500 pixels: the denoising loss and the martingale gap by noise level, both axes logarithmic.

    Bars and bands are two standard errors to either side. A gap that is not above 0 has no place on such an axis: in
    its stead an open triangle stands at the upper end of its bar.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5), dpi=100, layout="constrained")
    left, right = figure.subplots(1, 2)
    _panel(left, loss, _LOSS_COLOURS, title="Denoising loss, weighted as in training")
    _panel(right, gap, _GAP_COLOURS, title=r"Martingale gap  $w(t)\,\|E[D(x_s, s)\,|\,x_t] - D(x_t, t)\|^2$")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _panel(axes: "Axes", curves: Curves, colours: Sequence[str], *, title: str) -> None:
    floor = _floor(curves)
    for (label, levels), colour in zip(curves.items(), cycle(colours), strict=False):
        _curve(axes, levels, label, colour, floor)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(bottom=floor)
    _number(axes)
    axes.set_title(title, fontsize=11.5, loc="left")
    axes.set_xlabel(rf"noise level $\sigma$  (bars: $\pm${_SPREAD} standard errors)", fontsize=10.5)
    axes.grid(color=_RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=10)


def _curve(axes: "Axes", levels: Sequence[Level], label: str, colour: str, floor: float) -> None:
    upper = {level.sigma: max(floor, level.mean + _SPREAD * level.standard_error) for level in levels}
    shown = [level for level in levels if level.mean > floor]
    sigma = [level.sigma for level in shown]
    low = [max(floor, level.mean - _SPREAD * level.standard_error) for level in shown]
    high = [upper[each] for each in sigma]
    axes.plot(sigma, [level.mean for level in shown], "o-", color=colour, markersize=4.5, linewidth=1.6, label=label)
    axes.fill_between(sigma, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.vlines(sigma, low, high, color=colour, linewidth=1.1)
    hidden = [level.sigma for level in levels if level.mean <= floor]
    axes.plot(hidden, [upper[each] for each in hidden], "v", color=colour, markersize=6, fillstyle="none")


def _number(axes: "Axes") -> None:
    """Plain numbers; along a short axis more of them, since powers of ten would leave an axis almost bare."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    low, high = axes.get_ylim()
    if high < _PLAIN * low:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7)))
        axes.yaxis.set_major_formatter(lambda value, _: _short(value))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _short(value: float) -> str:
    """0.05, but 5e-4."""
    if value >= 0.01:
        return f"{value:g}"
    factor, power = f"{value:.3e}".split("e")
    return f"{float(factor):g}e{int(power)}"


def _floor(curves: Curves) -> float:
    """The lower end of the axis: below the least mean that can be shown, but not for ever."""
    means = [level.mean for levels in curves.values() for level in levels if level.mean > 0]
    return max(min(means) / 1.5, max(means) / 10**_DECADES) if means else 10.0**-_DECADES
