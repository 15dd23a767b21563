"""The reliability diagram: accuracy by confidence."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evaluation import curves
from evaluation.curves import Records, Reliability
from evaluation.plots.appearance import (
    Look,
    add_legend,
    mark_value,
    new_figure,
    percent_axis,
    style_axes,
    styled,
)


@styled
def reliability_diagram(found: Records, *, look: Look) -> Figure:
    """Draws accuracy over confidence, and below it the distribution of the confidence."""
    reliability = curves.reliability(*found.predictions)
    theme, locale = look.theme, look.locale
    filled = reliability.counts > 0
    weights = reliability.counts[filled]
    confidence = float(np.average(reliability.confidence[filled], weights=weights))
    accuracy = float(np.average(reliability.accuracy[filled], weights=weights))
    note = locale.text(
        "reliability_note",
        error=locale.percent(reliability.expected_calibration_error),
        bins=len(reliability.counts),
        direction=locale.text(
            "over_confident" if confidence >= accuracy else "under_confident",
            gap=locale.number(100 * abs(confidence - accuracy), 1),
        ),
    )
    height = 5.4 if look.narrow else 6.4
    figure = new_figure(look, locale.text("reliability"), note, height=height)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1.15])
    _accuracy_bars(above, reliability, look)
    _confidence_bars(below, reliability, look)
    sides = ("right", "left") if accuracy > confidence else ("left", "right")
    for share, key, colour, side in (
        (accuracy, "mean_accuracy", theme.main, sides[0]),
        (confidence, "mean_confidence", theme.contrary, sides[1]),
    ):
        text = locale.text(key, value=locale.percent(share))
        mark_value(below, share, text, colour, theme, side=side)
    return figure


def _accuracy_bars(axes: Axes, reliability: Reliability, look: Look) -> None:
    theme, locale = look.theme, look.locale
    style_axes(axes, theme)
    centres, width = _bins(reliability)
    accuracy = np.nan_to_num(reliability.accuracy)
    axes.bar(centres, accuracy, width=0.86 * width, color=theme.main)
    for centre, bar, sure in zip(centres, accuracy, reliability.confidence, strict=True):
        if np.isfinite(sure):  # the gap between confidence and accuracy
            sides = [centre - 0.43 * width, centre + 0.43 * width]
            axes.fill_between(sides, bar, sure, color=theme.contrary, alpha=0.35, lw=0)
            axes.plot(sides, [sure, sure], color=theme.contrary, linewidth=1.8)
    dashed: dict[str, Any] = {"color": theme.muted, "linewidth": 1.2, "linestyle": (0, (3, 2))}
    axes.plot([0, 1], [0, 1], label=locale.text("perfect"), **dashed)
    add_legend(axes, loc="upper left")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    percent_axis(axes, locale, "y")
    axes.set_ylabel(locale.text("right_answers"))


def _confidence_bars(axes: Axes, reliability: Reliability, look: Look) -> None:
    theme, locale = look.theme, look.locale
    style_axes(axes, theme, grid="y")
    centres, width = _bins(reliability)
    shares = reliability.counts / reliability.counts.sum()
    axes.bar(centres, shares, width=0.86 * width, color=theme.muted, alpha=0.55)
    axes.set_ylim(0, shares.max() * 1.45)
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_formatter(lambda value, _: locale.percent(value, 0))
    percent_axis(axes, locale, "x")
    axes.set_xlabel(locale.text("confidence"))
    axes.set_ylabel(locale.text("images"))


def _bins(reliability: Reliability) -> tuple[np.ndarray, float]:
    """The centres of the bins and their width."""
    edges = reliability.edges
    return (edges[:-1] + edges[1:]) / 2, float(edges[1] - edges[0])
