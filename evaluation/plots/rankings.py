"""Precision-recall and ROC curves of chosen classes, with their averages."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from classifier.model_folder.folder import ClassNames
from evaluation.curves import ClassCurves, Curve
from evaluation.locales import ENGLISH, Locale
from evaluation.plots.appearance import (
    TEXT_SIZE,
    fit_name,
    new_figure,
    percent_axis,
    style_axes,
)
from evaluation.themes import LIGHT, Theme

_LINE_STYLES = ("solid", (0, (5, 2)), (0, (1.5, 1.5)))  # the next style when all colours are used


def precision_recall_plot(
    curves: ClassCurves,
    names: ClassNames,
    classes: Sequence[int],
    *,
    theme: Theme = LIGHT,
    locale: Locale = ENGLISH,
    narrow: bool = False,
) -> Figure:
    """Draws the precision-recall curves of chosen classes and the micro and macro averages.

    Args:
        curves: of every class, from `curves.precision_recall_curves`.
        names: the classes.
        classes: indices of the classes to draw; may be empty.
        theme: the colours.
        locale: the language and the names of the classes.
        narrow: as a phone shows it, panels below each other.
    """
    note = locale.text("precision_recall_note")
    height = _height(classes, narrow)
    figure = new_figure(
        locale.text("precision_recall"), note, theme=theme, height=height, narrow=narrow
    )
    axes = figure.subplots()
    _draw_curves(axes, curves, names, classes, theme, locale, narrow)
    axes.set_xlabel(locale.text("recall"))
    axes.set_ylabel(locale.text("precision"))
    return figure


def roc_plot(
    curves: ClassCurves,
    names: ClassNames,
    classes: Sequence[int],
    *,
    theme: Theme = LIGHT,
    locale: Locale = ENGLISH,
    narrow: bool = False,
) -> Figure:
    """Draws the ROC curves of chosen classes and the micro and macro averages.

    Args:
        curves: of every class, from `curves.roc_curves`.
        names: the classes.
        classes: indices of the classes to draw; may be empty.
        theme: the colours.
        locale: the language and the names of the classes.
        narrow: as a phone shows it, panels below each other.
    """
    note = locale.text("roc_note")
    height = _height(classes, narrow)
    figure = new_figure(locale.text("roc"), note, theme=theme, height=height, narrow=narrow)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=theme.grid, linewidth=1.2)  # a random classifier
    _draw_curves(axes, curves, names, classes, theme, locale, narrow)
    axes.set_xlabel(locale.text("false_positive_rate"))
    axes.set_ylabel(locale.text("true_positive_rate"))
    return figure


def _height(classes: Sequence[int], narrow: bool) -> float:
    """Inches; a narrow figure has its legend below."""
    return 4.7 + 0.25 * (2 + len(classes)) if narrow else 5.2


def _draw_curves(
    axes: Axes,
    curves: ClassCurves,
    names: ClassNames,
    classes: Sequence[int],
    theme: Theme,
    locale: Locale,
    narrow: bool,
) -> None:
    def line(curve: Curve, name: str, color: str, width: float, style: object = "solid") -> None:
        label = f"{locale.number(curve.area, 3)}  {name}"
        axes.plot(
            curve.x,
            curve.y,
            label=label,
            color=color,
            linewidth=width,
            linestyle=style,
            solid_joinstyle="round",
        )

    style_axes(axes, theme)
    line(curves.micro, locale.text("micro"), theme.ink, 3.2)
    line(curves.macro, locale.text("macro"), theme.muted, 1.6)
    chosen = [(curves.classes[index], names.classes[index]) for index in classes]
    drawn = [(curve, name) for curve, name in chosen if curve is not None]
    drawn.sort(key=lambda item: -item[0].area)
    for order, (curve, name) in enumerate(drawn):
        turn, colour = divmod(order, len(theme.series))
        style = _LINE_STYLES[turn % len(_LINE_STYLES)]
        label = fit_name(locale.name(name), 28 if narrow else 16, lines=1 if narrow else 3)
        line(curve, label, theme.series[colour], 1.5, style)
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
