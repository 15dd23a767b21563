"""Precision-recall and ROC curves of chosen classes, with their averages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from classifier.model_folder.folder import ClassNames
from evaluation.curves import ClassCurves, Curve
from evaluation.plots.appearance import TEXT_SIZE, Look, new_figure, percent_axis, style

_STYLES = ("solid", (0, (5, 2)), (0, (1.5, 1.5)))  # once every colour is used


def precision_recall_plot(
    curves: ClassCurves,
    names: ClassNames,
    classes: Sequence[int],
    *,
    theme: str = "light",
    language: str = "en",
    class_names: Mapping[str, str] | None = None,
) -> Figure:
    """Draws the precision-recall curves of chosen classes and the micro and macro averages.

    Args:
        curves: of every class, from `curves.precision_recall_curves`.
        names: the classes.
        classes: indices of the classes to draw; may be empty.
        theme: "light" or "dark".
        language: "en" or "es".
        class_names: translations of class names.
    """
    look = Look(theme, language, class_names)
    note = look.text("precision_recall_note")
    figure = new_figure(look, look.text("precision_recall"), note, height=5.2)
    axes = figure.subplots()
    _draw(axes, curves, names, classes, look)
    axes.set_xlabel(look.text("recall"))
    axes.set_ylabel(look.text("precision"))
    return figure


def roc_plot(
    curves: ClassCurves,
    names: ClassNames,
    classes: Sequence[int],
    *,
    theme: str = "light",
    language: str = "en",
    class_names: Mapping[str, str] | None = None,
) -> Figure:
    """Draws the ROC curves of chosen classes and the micro and macro averages.

    Args:
        curves: of every class, from `curves.roc_curves`.
        names: the classes.
        classes: indices of the classes to draw; may be empty.
        theme: "light" or "dark".
        language: "en" or "es".
        class_names: translations of class names.
    """
    look = Look(theme, language, class_names)
    figure = new_figure(look, look.text("roc"), look.text("roc_note"), height=5.2)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=look.colours.grid, linewidth=1.2)
    _draw(axes, curves, names, classes, look)
    axes.set_xlabel(look.text("false_positive_rate"))
    axes.set_ylabel(look.text("true_positive_rate"))
    return figure


def _draw(
    axes: Axes, curves: ClassCurves, names: ClassNames, classes: Sequence[int], look: Look
) -> None:
    style(axes, look)
    colours = look.colours
    _line(axes, curves.micro, look.text("micro"), look, color=colours.ink, linewidth=3.2)
    _line(
        axes,
        curves.macro,
        look.text("macro"),
        look,
        color=colours.muted,
        linewidth=1.6,
    )
    drawn = [index for index in classes if curves.classes[index] is not None]
    drawn.sort(key=lambda index: -_area(curves.classes[index]))
    for order, index in enumerate(drawn):
        curve = curves.classes[index]
        assert curve is not None
        turn, colour = divmod(order, len(colours.series))
        _line(
            axes,
            curve,
            look.name(names.classes[index], wrap=16),
            look,
            color=colours.series[colour],
            linewidth=1.5,
            linestyle=_STYLES[turn % len(_STYLES)],
        )
    axes.set_aspect("equal")
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.02)
    percent_axis(axes, look, "x")
    percent_axis(axes, look, "y")
    _legend(axes)


def _area(curve: Curve | None) -> float:
    return 0.0 if curve is None else curve.area


def _line(axes: Axes, curve: Curve, name: str, look: Look, **options: object) -> None:
    label = f"{look.number(curve.area, 3)}  {name}"
    axes.plot(curve.x, curve.y, label=label, solid_joinstyle="round", **options)  # type: ignore[arg-type]


def _legend(axes: Axes) -> None:
    legend = axes.legend(
        loc="upper left",
        bbox_to_anchor=(1.02, 1.0),
        frameon=False,
        fontsize=TEXT_SIZE,
        handlelength=1.7,
        labelspacing=0.6,
        labelcolor="linecolor",
        borderaxespad=0,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
