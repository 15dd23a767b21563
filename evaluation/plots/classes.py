"""How the classes fare: their spread, the best and the worst, the pairs most confused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evaluation.plots.appearance import (
    TEXT_SIZE,
    Look,
    mark_value,
    new_figure,
    percent_axis,
    style,
)

_PAIRS = 15


def class_histograms(
    evaluation: Mapping[str, Any],
    *,
    theme: str = "light",
    language: str = "en",
    class_names: Mapping[str, str] | None = None,
) -> Figure:
    """Draws how many classes reach which accuracy (which is their recall), precision and F1.

    Args:
        evaluation: the content of `evaluation.json`.
        theme: "light" or "dark".
        language: "en" or "es".
        class_names: translations of class names.
    """
    look = Look(theme, language, class_names)
    figure = new_figure(look, look.text("histograms"), look.text("histograms_note"), height=3.6)
    panels = figure.subplots(1, 3, sharey=True)
    for axes, field, title in (
        (panels[0], "accuracy", "title_accuracy_is_recall"),
        (panels[1], "precision", "title_precision"),
        (panels[2], "f1", "title_f1"),
    ):
        values = [row[field] for row in evaluation["per_class"] if row[field] is not None]
        style(axes, look, grid="y", title=look.text(title))
        axes.hist(values, bins=np.linspace(0, 1, 21), color=look.colours.main, rwidth=0.86)
        percent_axis(axes, look, "x", ticks=2)
        axes.set_xlim(0, 1)
        axes.margins(y=0.16)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        mean = float(np.mean(values))
        text = look.text("mean", value=look.percent(mean, 1))
        side = "left" if mean > 0.5 else "right"
        mark_value(axes, mean, text, look.colours.contrary, look, side=side)
    panels[0].set_ylabel(look.text("classes_axis"))
    return figure


def best_and_worst_classes(
    evaluation: Mapping[str, Any],
    *,
    theme: str = "light",
    language: str = "en",
    class_names: Mapping[str, str] | None = None,
) -> Figure:
    """Draws the accuracy of the best classes beside that of the worst.

    Args:
        evaluation: the content of `evaluation.json`.
        theme: "light" or "dark".
        language: "en" or "es".
        class_names: translations of class names.
    """
    look = Look(theme, language, class_names)
    accuracy = {row["name"]: row["accuracy"] for row in evaluation["per_class"] if row["support"]}
    mean = float(np.mean(list(accuracy.values())))
    note = look.text("best_and_worst_note")
    rows = len(evaluation["best_classes"])
    figure = new_figure(look, look.text("best_and_worst"), note, height=1.6 + 0.3 * rows)
    panels = figure.subplots(1, 2, sharex=True)
    for axes, field, colour in (
        (panels[0], "best", look.colours.main),
        (panels[1], "worst", look.colours.contrary),
    ):
        names = evaluation[f"{field}_classes"]
        values = [accuracy[name] for name in names]
        style(axes, look, grid=None, title=look.text(field))
        labels = [look.percent(value) for value in values]
        _bars(axes, [look.name(name, wrap=18) for name in names], values, labels, colour, look)
        axes.set_xlim(0, 1.12)
        axes.set_ylim(bottom=max(rows, 2) - 0.1)  # room for the name of the line
        axes.axvline(mean, color=look.colours.muted, linewidth=1, linestyle=(0, (3, 3)))
    panels[1].annotate(
        look.text("mean", value=look.percent(mean, 1)),
        (mean, 0),
        xycoords=("data", "axes fraction"),
        xytext=(6, 2),
        textcoords="offset points",
        size=TEXT_SIZE,
        color=look.colours.muted,
        parse_math=False,
    )
    return figure


def most_confused_pairs(
    evaluation: Mapping[str, Any],
    *,
    theme: str = "light",
    language: str = "en",
    class_names: Mapping[str, str] | None = None,
) -> Figure:
    """Draws the pairs of classes with the most mistakes.

    Args:
        evaluation: the content of `evaluation.json`.
        theme: "light" or "dark".
        language: "en" or "es".
        class_names: translations of class names.
    """
    look = Look(theme, language, class_names)
    pairs = evaluation["most_confused"][:_PAIRS]
    support = {row["name"]: row["support"] for row in evaluation["per_class"]}
    height = 1.2 + 0.3 * max(len(pairs), 2)
    figure = new_figure(
        look, look.text("most_confused"), look.text("most_confused_note"), height=height
    )
    axes = style(figure.subplots(), look, grid=None)
    names = [f"{look.name(pair['true'])}  →  {look.name(pair['predicted'])}" for pair in pairs]
    counts = [pair["count"] for pair in pairs]
    labels = [
        f"{look.number(pair['count'])} "
        + look.text("of_support", support=look.number(support[pair["true"]]))
        for pair in pairs
    ]
    _bars(axes, names, counts, labels, look.colours.contrary, look)
    axes.margins(x=0.16)
    if not pairs:
        axes.text(0, 0, look.text("no_data"), color=look.colours.muted, size=TEXT_SIZE)
    return figure


def _bars(
    axes: Axes, names: list[str], values: list[float], labels: list[str], colour: str, look: Look
) -> None:
    """Horizontal bars, the first on top, each with its figure at its end."""
    axes.barh(range(len(names)), values, height=0.62, color=colour)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.tick_params(axis="y", labelcolor=look.colours.ink)
    axes.set_xticks([])
    axes.set_ylim(max(len(names), 2) - 0.4, -0.6)
    for position, (value, label) in enumerate(zip(values, labels, strict=True)):
        axes.annotate(
            label,
            (value, position),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            size=TEXT_SIZE,
            color=look.colours.ink,
        )
