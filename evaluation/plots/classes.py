"""Figures of per-class results, each from a model's `evaluation.json`."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evaluation.curves import Records
from evaluation.plots.appearance import (
    TEXT_SIZE,
    Look,
    fit_name,
    horizontal_bars,
    label,
    mark_value,
    new_figure,
    percent_axis,
    style_axes,
    styled,
)

_PAIRS = 15


@styled
def class_histograms(found: Records, *, look: Look) -> Figure:
    """Draws histograms of the accuracy (which is the recall), precision and F1 of the classes."""
    theme, locale, narrow = look.theme, look.locale, look.narrow
    note = locale.text("histograms_note")
    height = 7.2 if narrow else 3.6
    figure = new_figure(look, locale.text("histograms"), note, height=height)
    panels = figure.subplots(*((3, 1) if narrow else (1, 3)), sharey=True)
    for axes, field, title in (
        (panels[0], "accuracy", "title_accuracy_is_recall"),
        (panels[1], "precision", "title_precision"),
        (panels[2], "f1", "title_f1"),
    ):
        values = [row[field] for row in found.evaluation["per_class"] if row[field] is not None]
        style_axes(axes, theme, grid="y", title=locale.text(title))
        axes.hist(values, bins=np.linspace(0, 1, 21), color=theme.main, rwidth=0.86)
        percent_axis(axes, locale, "x", ticks=2)
        axes.set_xlim(0, 1)
        axes.margins(y=0.16)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        mean = float(np.mean(values))
        text = locale.text("mean", value=locale.percent(mean))
        side = "left" if mean > 0.5 else "right"
        mark_value(axes, mean, text, theme.contrary, theme, side=side)
    panels[len(panels) // 2 if narrow else 0].set_ylabel(locale.text("classes_axis"))
    return figure


@styled
def best_and_worst_classes(found: Records, *, look: Look) -> Figure:
    """Draws the accuracy of the best and the worst classes."""
    theme, locale, narrow = look.theme, look.locale, look.narrow
    accuracy = {
        row["name"]: row["accuracy"] for row in found.evaluation["per_class"] if row["support"]
    }
    mean = float(np.mean(list(accuracy.values())))
    note = locale.text("best_and_worst_note")
    rows = len(found.evaluation["best_classes"])
    height = 2.6 + 0.6 * rows if narrow else 1.6 + 0.3 * rows
    figure = new_figure(look, locale.text("best_and_worst"), note, height=height)
    panels = figure.subplots(*((2, 1) if narrow else (1, 2)), sharex=True)
    for axes, field, colour in (
        (panels[0], "best", theme.main),
        (panels[1], "worst", theme.contrary),
    ):
        classes = found.evaluation[f"{field}_classes"]
        values = [accuracy[name] for name in classes]
        labels = [locale.percent(value, 0) for value in values]
        names = [fit_name(locale.name(name), 18, lines=2) for name in classes]
        style_axes(axes, theme, grid=None, title=locale.text(field))
        horizontal_bars(axes, names, values, labels, colour, theme)
        axes.set_xlim(0, 1.12)
        axes.set_ylim(bottom=max(rows, 2) - 0.1)  # room for the name of the line
        axes.axvline(mean, color=theme.muted, linewidth=1, linestyle=(0, (3, 3)))
    text, at_bottom = locale.text("mean", value=locale.percent(mean)), ("data", "axes fraction")
    label(panels[1], text, (mean, 0), (6, 2), theme.muted, xycoords=at_bottom, va="baseline")
    return figure


@styled
def most_confused_pairs(found: Records, *, look: Look) -> Figure:
    """Draws the pairs of classes with the most mistakes."""
    theme, locale, narrow = look.theme, look.locale, look.narrow
    pairs = found.evaluation["most_confused"][:_PAIRS]
    support = {row["name"]: row["support"] for row in found.evaluation["per_class"]}
    note = locale.text("most_confused_note")
    height = 1.2 + (0.42 if narrow else 0.3) * max(len(pairs), 2)
    figure = new_figure(look, locale.text("most_confused"), note, height=height)
    axes = style_axes(figure.subplots(), theme, grid=None)
    arrow, width = ("\n→ ", 17) if narrow else ("  →  ", 24)
    names = [
        arrow.join(fit_name(locale.name(pair[side]), width) for side in ("true", "predicted"))
        for pair in pairs
    ]
    counts = [pair["count"] for pair in pairs]
    labels = [
        f"{locale.number(pair['count'])} "
        + locale.text("of_support", support=locale.number(support[pair["true"]]))
        for pair in pairs
    ]
    horizontal_bars(axes, names, counts, labels, theme.contrary, theme)
    axes.margins(x=0.16)
    if not pairs:
        axes.text(0, 0, locale.text("no_data"), color=theme.muted, size=TEXT_SIZE)
    return figure
