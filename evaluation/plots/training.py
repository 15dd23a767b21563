"""The training, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evaluation.plots.appearance import TEXT_SIZE, Look, new_figure, style

_MOST_MARKED_EPOCHS = 40  # the points of longer trainings would run together


def training_curves(
    history: Sequence[Mapping[str, float]],
    *,
    theme: str = "light",
    language: str = "en",
    class_names: Mapping[str, str] | None = None,
) -> Figure:
    """Draws accuracy, loss and learning rate over the epochs.

    Args:
        history: the rows of `history.csv`; columns that are missing are left out.
        theme: "light" or "dark".
        language: "en" or "es".
        class_names: taken like the other figures do; this one names no class.
    """
    look = Look(theme, language, class_names)
    accuracy = _column(history, "val_accuracy")
    best = int(np.nanargmax(accuracy)) if np.isfinite(accuracy).any() else None
    note = ""
    if best is not None:
        value = look.percent(accuracy[best], 1)
        note = look.text("training_note", epochs=len(history), value=value, epoch=best + 1)
    figure = new_figure(look, look.text("training_curves"), note, height=6.6)
    panels = figure.subplots(3, 1, sharex=True, height_ratios=[3, 2.4, 1])
    _pair(panels[0], history, "accuracy", look.text("title_accuracy"), look)
    panels[0].yaxis.set_major_formatter(lambda value, _: look.percent(value))
    if best is not None:
        panels[0].plot(best + 1, accuracy[best], "o", color=look.colours.contrary, markersize=6)
    _pair(panels[1], history, "loss", look.text("loss"), look)
    panels[1].yaxis.set_major_formatter(lambda value, _: look.plain(value))
    style(panels[2], look, title=look.text("learning_rate"))
    epochs = np.arange(1, len(history) + 1)
    rate = _column(history, "learning_rate")
    panels[2].plot(epochs, rate, color=look.colours.muted, linewidth=1.8, drawstyle="steps-mid")
    panels[2].yaxis.set_major_formatter(lambda value, _: look.plain(value))
    panels[2].set_xlim(0.6, max(len(history), 2) + 0.4)
    panels[2].yaxis.set_major_locator(MaxNLocator(2))
    panels[2].xaxis.set_major_locator(MaxNLocator(8, integer=True))
    panels[2].set_xlabel(look.text("epoch"))
    return figure


def _pair(
    axes: Axes, history: Sequence[Mapping[str, float]], field: str, title: str, look: Look
) -> None:
    """Training and validation of one quantity, named at the end of their lines."""
    style(axes, look, title=title)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    epochs = np.arange(1, len(history) + 1)
    marker = "o" if len(history) <= _MOST_MARKED_EPOCHS else ""
    ends = []
    for column, key, colour in (
        (field, "training", look.colours.main),
        (f"val_{field}", "validation", look.colours.contrary),
    ):
        values = _column(history, column)
        if np.isfinite(values).any():
            axes.plot(epochs, values, color=colour, linewidth=2, marker=marker, markersize=3)
            ends.append((values[np.isfinite(values)][-1], look.text(key), colour))
    ends.sort(key=lambda end: end[0])
    for place, (value, text, colour) in enumerate(ends):
        # Lines that end together would have their names on top of each other: spread them.
        shift = 0 if len(ends) < 2 else (-7 if place == 0 else 7)
        axes.annotate(
            text,
            (epochs[-1], value),
            xytext=(8, shift),
            textcoords="offset points",
            va="center",
            size=TEXT_SIZE,
            color=colour,
            annotation_clip=False,
        )


def _column(history: Sequence[Mapping[str, float]], name: str) -> np.ndarray:
    return np.array([float(row.get(name, "nan") or "nan") for row in history])
