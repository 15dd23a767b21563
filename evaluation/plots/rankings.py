"""Precision-recall and ROC curves of chosen classes, with their averages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from classifier.model_folder.folder import ClassNames
from evaluation.curves import ClassCurves, Curve
from evaluation.plots.appearance import (
    TEXT_SIZE,
    Look,
    fit_name,
    new_figure,
    percent_axis,
    plain_text,
    style_axes,
)

_LINE_STYLES = ("solid", (0, (5, 2)), (0, (1.5, 1.5)))  # the next style when all colours are used


@plain_text
def precision_recall_plot(
    curves: ClassCurves,
    names: ClassNames,
    classes: Sequence[int],
    **style: Any,
) -> Figure:
    """Draws the precision-recall curves of the classes with these indices, and the averages."""
    labels = ("recall", "precision")
    return _plot("precision_recall", labels, curves, names, classes, Look(**style))


@plain_text
def roc_plot(
    curves: ClassCurves,
    names: ClassNames,
    classes: Sequence[int],
    **style: Any,
) -> Figure:
    """Draws the ROC curves of the classes with these indices, and the averages."""
    labels = ("false_positive_rate", "true_positive_rate")
    look = Look(**style)
    figure = _plot("roc", labels, curves, names, classes, look)
    # A random classifier; zorder: behind the curves.
    figure.axes[0].plot([0, 1], [0, 1], color=look.theme.grid, linewidth=1.2, zorder=1.5)
    return figure


def _plot(
    key: str,
    labels: tuple[str, str],
    curves: ClassCurves,
    names: ClassNames,
    classes: Sequence[int],
    look: Look,
) -> Figure:
    theme, locale, narrow = look.theme, look.locale, look.narrow
    # A narrow figure has its legend below the axes.
    height = 4.7 + 0.25 * (2 + len(classes)) if narrow else 5.2
    figure = new_figure(look, locale.text(key), locale.text(f"{key}_note"), height=height)
    axes = figure.subplots()

    def line(curve: Curve, name: str, color: str, width: float, dashes: object = "solid") -> None:
        label = f"{locale.number(curve.area, 3)}  {name}"
        options: dict[str, Any] = {"linewidth": width, "linestyle": dashes}
        axes.plot(curve.x, curve.y, label=label, color=color, solid_joinstyle="round", **options)

    style_axes(axes, theme)
    line(curves.micro, locale.text("micro"), theme.ink, 3.2)
    line(curves.macro, locale.text("macro"), theme.muted, 1.6)
    chosen = [(curves.classes[index], names.classes[index]) for index in classes]
    drawn = [(curve, name) for curve, name in chosen if curve is not None]
    drawn.sort(key=lambda item: -item[0].area)
    for order, (curve, name) in enumerate(drawn):
        turn, colour = divmod(order, len(theme.series))
        dashes = _LINE_STYLES[turn % len(_LINE_STYLES)]
        label = fit_name(locale.name(name), 28 if narrow else 16, lines=1 if narrow else 3)
        line(curve, label, theme.series[colour], 1.5, dashes)
    axes.set_aspect("equal")
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.02)
    percent_axis(axes, locale, "x")
    percent_axis(axes, locale, "y")
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(0.0, -0.2) if narrow else (1.02, 1.0),
        frameon=False,
        fontsize=TEXT_SIZE,
        handlelength=1.7,
        labelspacing=0.6,
        labelcolor="linecolor",
        borderaxespad=0,
    )
    axes.set_xlabel(locale.text(labels[0]))
    axes.set_ylabel(locale.text(labels[1]))
    return figure
