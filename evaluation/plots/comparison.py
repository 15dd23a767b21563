"""Models beside each other: what disturbed images cost them, and where their classes differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evaluation.plots.appearance import TEXT_SIZE, Look, new_figure, style

DISTURBANCES = ("shift", "rotation", "blur", "brightness", "noise")
_CHANGES = 8  # classes shown at each end of the differences
_COLUMNS = 3


def robustness_curves(
    results: Mapping[str, Mapping[str, Any]],
    *,
    theme: str = "light",
    language: str = "en",
    class_names: Mapping[str, str] | None = None,
) -> Figure:
    """Draws the top-1 of several models as the images are disturbed more and more.

    Args:
        results: for each disturbance (of `DISTURBANCES`) its `levels`, a list of numbers from
            untouched to worst, and `top1`, for each model's name a list of shares as long.
        theme: "light" or "dark".
        language: "en" or "es".
        class_names: taken like the other figures do; this one names no class.

    Example:
        >>> results = {"shift": {"levels": [0, 4, 8], "top1": {"mlp": [0.5, 0.3, 0.1]}}}
        >>> figure = robustness_curves(results)
    """
    look = Look(theme, language, class_names)
    kinds = [kind for kind in DISTURBANCES if kind in results]
    models = list(dict.fromkeys(name for kind in kinds for name in results[kind]["top1"]))
    rows = -(-(len(kinds) + 1) // _COLUMNS)  # one more panel names the models
    note = look.text("robustness_note")
    figure = new_figure(look, look.text("robustness"), note, height=0.9 + 2.3 * rows)
    panels = figure.subplots(rows, _COLUMNS, sharey=True, squeeze=False).ravel()
    for axes, kind in zip(panels, kinds, strict=False):
        _robustness_panel(axes, kind, results[kind], models, look)
    for axes in panels[len(kinds) :]:
        axes.set_axis_off()
    handles, _ = panels[0].get_legend_handles_labels()
    legend = panels[len(kinds)].legend(
        handles,
        models,
        loc="center left",
        frameon=False,
        fontsize=TEXT_SIZE + 1,
        labelcolor="linecolor",
        labelspacing=0.9,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def class_differences(
    first: Mapping[str, Any],
    second: Mapping[str, Any],
    names: tuple[str, str],
    *,
    theme: str = "light",
    language: str = "en",
    class_names: Mapping[str, str] | None = None,
) -> Figure:
    """Draws the classes at which a model is most above and most below another.

    Args:
        first: the content of the model's `evaluation.json`.
        second: that of the other, of the same classes.
        names: what the two are called.
        theme: "light" or "dark".
        language: "en" or "es".
        class_names: translations of class names.
    """
    look = Look(theme, language, class_names)
    chosen = _largest_changes(first, second)
    note = look.text("class_differences_note", first=names[0], second=names[1])
    height = 1.2 + 0.27 * max(len(chosen), 2)
    figure = new_figure(look, look.text("class_differences"), note, height=height)
    axes = style(figure.subplots(), look, grid=None)
    values = np.array([100 * change for change, _ in chosen])
    colours = [look.colours.main if value >= 0 else look.colours.contrary for value in values]
    axes.barh(range(len(chosen)), values, height=0.62, color=colours)
    labels = [look.name(name) for _, name in chosen]
    axes.set_yticks(range(len(chosen)), labels, parse_math=False)
    axes.tick_params(axis="y", labelcolor=look.colours.ink)
    axes.set_xticks([])
    axes.set_ylim(max(len(chosen), 2) - 0.4, -0.6)
    axes.axvline(0, color=look.colours.muted, linewidth=1)
    for position, value in enumerate(values):
        sign = "+" if value > 0 else "−" if value < 0 else ""
        axes.annotate(
            sign + look.number(abs(value)),
            (value, position),
            xytext=(5 if value >= 0 else -5, 0),
            textcoords="offset points",
            ha="left" if value >= 0 else "right",
            va="center",
            size=TEXT_SIZE,
            color=look.colours.ink,
        )
    axes.margins(x=0.1)
    return figure


def _robustness_panel(
    axes: Axes, kind: str, result: Mapping[str, Any], models: Sequence[str], look: Look
) -> None:
    style(axes, look, title=look.text(kind))
    levels = result["levels"]
    for order, model in enumerate(models):
        if model in result["top1"]:
            colour = look.colours.series[order % len(look.colours.series)]
            axes.plot(levels, result["top1"][model], color=colour, linewidth=2.2, label=model)
    if levels[0] > levels[-1]:  # brightness falls: untouched stays at the left
        axes.invert_xaxis()
    axes.set_ylim(bottom=0)
    axes.set_xlabel(look.text(f"{kind}_axis"))
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(lambda value, _: look.plain(value))
    axes.yaxis.set_major_formatter(lambda value, _: look.percent(value))


def _largest_changes(
    first: Mapping[str, Any], second: Mapping[str, Any]
) -> list[tuple[float, str]]:
    """(difference of accuracies, class), the greatest gains first, then the greatest losses."""
    other = {row["name"]: row["accuracy"] for row in second["per_class"]}
    changes = [
        (row["accuracy"] - other[row["name"]], row["name"])
        for row in first["per_class"]
        if row["accuracy"] is not None and other.get(row["name"]) is not None
    ]
    changes.sort(key=lambda change: -change[0])
    if len(changes) <= 2 * _CHANGES:
        return changes
    return changes[:_CHANGES] + changes[-_CHANGES:]
