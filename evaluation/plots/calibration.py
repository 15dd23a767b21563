"""Whether a model is as often right as it is sure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evaluation.curves import Reliability
from evaluation.plots.appearance import (
    TEXT_SIZE,
    Look,
    mark_value,
    new_figure,
    percent_axis,
    style,
)


def reliability_diagram(
    reliability: Reliability,
    *,
    theme: str = "light",
    language: str = "en",
    class_names: Mapping[str, str] | None = None,
) -> Figure:
    """Draws accuracy over confidence, and under it how confidence is spread.

    Args:
        reliability: from `curves.reliability`.
        theme: "light" or "dark".
        language: "en" or "es".
        class_names: taken like the other figures do; this one names no class.
    """
    look = Look(theme, language, class_names)
    filled = reliability.counts > 0
    weights = reliability.counts[filled]
    confidence = float(np.average(reliability.confidence[filled], weights=weights))
    accuracy = float(np.average(reliability.accuracy[filled], weights=weights))
    figure = new_figure(
        look,
        look.text("reliability"),
        look.text(
            "reliability_note",
            error=look.percent(reliability.expected_calibration_error, 1),
            bins=len(reliability.counts),
            direction=_direction(confidence - accuracy, look),
        ),
        height=6.4,
    )
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1.15])
    _accuracy_bars(above, reliability, look)
    _confidence_bars(below, reliability, look)
    sides = ("right", "left") if accuracy > confidence else ("left", "right")
    for share, key, colour, side in (
        (accuracy, "mean_accuracy", look.colours.main, sides[0]),
        (confidence, "mean_confidence", look.colours.contrary, sides[1]),
    ):
        text = look.text(key, value=look.percent(share, 1))
        mark_value(below, share, text, colour, look, side=side)
    return figure


def _direction(gap: float, look: Look) -> str:
    key = "over_confident" if gap >= 0 else "under_confident"
    return look.text(key, gap=look.number(100 * abs(gap), 1))


def _accuracy_bars(axes: Axes, reliability: Reliability, look: Look) -> None:
    colours = look.colours
    style(axes, look)
    centres, width = _bins(reliability)
    accuracy = np.nan_to_num(reliability.accuracy)
    axes.bar(centres, accuracy, width=0.86 * width, color=colours.main)
    for centre, bar, sure in zip(centres, accuracy, reliability.confidence, strict=True):
        if np.isfinite(sure):  # the gap between what was promised and what was kept
            half = 0.43 * width
            axes.fill_between(
                [centre - half, centre + half], bar, sure, color=colours.contrary, alpha=0.35, lw=0
            )
            axes.plot(
                [centre - half, centre + half], [sure, sure], color=colours.contrary, linewidth=1.8
            )
    axes.plot(
        [0, 1],
        [0, 1],
        color=colours.muted,
        linewidth=1.2,
        linestyle=(0, (3, 2)),
        label=look.text("perfect"),
    )
    axes.legend(loc="upper left", frameon=False, fontsize=TEXT_SIZE, labelcolor=colours.muted)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    percent_axis(axes, look, "y")
    axes.set_ylabel(look.text("right_answers"))


def _confidence_bars(axes: Axes, reliability: Reliability, look: Look) -> None:
    style(axes, look, grid="y")
    centres, width = _bins(reliability)
    shares = reliability.counts / reliability.counts.sum()
    axes.bar(centres, shares, width=0.86 * width, color=look.colours.muted, alpha=0.55)
    axes.set_ylim(0, shares.max() * 1.45)
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_formatter(lambda value, _: look.percent(value))
    percent_axis(axes, look, "x")
    axes.set_xlabel(look.text("confidence"))
    axes.set_ylabel(look.text("images"))


def _bins(reliability: Reliability) -> tuple[np.ndarray, float]:
    edges = reliability.edges
    return (edges[:-1] + edges[1:]) / 2, float(edges[1] - edges[0])
