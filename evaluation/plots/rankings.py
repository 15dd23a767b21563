"""Precision-recall and ROC curves of chosen classes, with their averages."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from evaluation.curves import ClassCurves, Curve, Records, default_classes
from evaluation.plots.appearance import (
    Look,
    add_legend,
    fit_name,
    new_figure,
    percent_axis,
    style_axes,
    styled,
)

AXES = {  # of the curves, horizontal and vertical
    "precision_recall": ("recall", "precision"),
    "roc": ("false_positive_rate", "true_positive_rate"),
}


@styled
def precision_recall_plot(found: Records, classes: Sequence[int] = (), *, look: Look) -> Figure:
    """Draws precision-recall curves, by default of the best and the worst classes."""
    return _plot("precision_recall", found.precision_recall, found, classes, look)


@styled
def roc_plot(found: Records, classes: Sequence[int] = (), *, look: Look) -> Figure:
    """Draws ROC curves, by default of the best and the worst classes."""
    figure = _plot("roc", found.roc, found, classes, look)
    # A random classifier; zorder: behind the curves.
    figure.axes[0].plot([0, 1], [0, 1], color=look.theme.grid, linewidth=1.2, zorder=1.5)
    return figure


def _plot(
    key: str, curves: ClassCurves, found: Records, classes: Sequence[int], look: Look
) -> Figure:
    classes = classes or default_classes(found.evaluation)
    theme, locale, narrow = look.theme, look.locale, look.narrow
    # A narrow figure has its legend below the axes.
    height = 4.7 + 0.25 * (2 + len(classes)) if narrow else 5.2
    figure = new_figure(look, locale.text(key), locale.text(f"{key}_note"), height=height)
    axes = figure.subplots()

    def line(curve: Curve, name: str, color: str, width: float) -> None:
        label = f"{locale.number(curve.area, 3)}  {name}"
        axes.plot(curve.x, curve.y, label=label, color=color, linewidth=width)

    style_axes(axes, theme)
    line(curves.micro, locale.text("micro"), theme.ink, 3.2)
    line(curves.macro, locale.text("macro"), theme.muted, 1.6)
    chosen = [(curves.classes[index], found.names.classes[index]) for index in classes]
    drawn = [(curve, name) for curve, name in chosen if curve is not None]
    drawn.sort(key=lambda item: -item[0].area)
    for order, (curve, name) in enumerate(drawn):
        label = fit_name(locale.name(name), 28 if narrow else 16, lines=1 if narrow else 3)
        line(curve, label, theme.series[order % len(theme.series)], 1.5)
    axes.set_aspect("equal")
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.02)
    percent_axis(axes, locale, "x")
    percent_axis(axes, locale, "y")
    corner = (0.0, -0.2) if narrow else (1.02, 1.0)
    add_legend(axes, loc="upper left", bbox_to_anchor=corner, labelspacing=0.6, borderaxespad=0)
    axes.set_xlabel(locale.text(AXES[key][0]))
    axes.set_ylabel(locale.text(AXES[key][1]))
    return figure
