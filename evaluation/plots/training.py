"""Training curves: accuracy, loss and learning rate per epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evaluation.plots.appearance import Look, label, new_figure, plain_text, style_axes

_MAX_MARKED_EPOCHS = 40  # the markers of longer trainings would overlap


@plain_text
def training_curves(history: Sequence[Mapping[str, float]], **style: Any) -> Figure:
    """Draws the columns of `history.csv` over the epochs; missing ones are skipped."""
    look = Look(**style)
    theme, locale = look.theme, look.locale
    accuracy = _column(history, "val_accuracy")
    best = int(np.nanargmax(accuracy)) if np.isfinite(accuracy).any() else None
    note = ""
    if best is not None:
        value = locale.percent(accuracy[best])
        note = locale.text("training_note", epochs=len(history), value=value, epoch=best + 1)
    figure = new_figure(look, locale.text("training_curves"), note, height=6.6)
    accuracies, losses, rates = figure.subplots(3, 1, sharex=True, height_ratios=[3, 2.4, 1])
    style_axes(accuracies, theme, title=locale.text("title_accuracy"))
    _training_and_validation(accuracies, history, "accuracy", look)
    accuracies.yaxis.set_major_formatter(lambda value, _: locale.percent(value, 0))
    if best is not None:
        accuracies.plot(best + 1, accuracy[best], "o", color=theme.contrary, markersize=6)
    style_axes(losses, theme, title=locale.text("loss"))
    _training_and_validation(losses, history, "loss", look)
    losses.yaxis.set_major_formatter(lambda value, _: locale.plain(value))
    style_axes(rates, theme, title=locale.text("learning_rate"))
    epochs = np.arange(1, len(history) + 1)
    rate = _column(history, "learning_rate")
    rates.plot(epochs, rate, color=theme.muted, linewidth=1.8, drawstyle="steps-mid")
    rates.yaxis.set_major_formatter(lambda value, _: locale.plain(value))
    rates.set_xlim(0.6, max(len(history), 2) + 0.4)
    rates.yaxis.set_major_locator(MaxNLocator(2))
    rates.xaxis.set_major_locator(MaxNLocator(5 if look.narrow else 8, integer=True))
    rates.set_xlabel(locale.text("epoch"))
    return figure


def _training_and_validation(
    axes: Axes, history: Sequence[Mapping[str, float]], field: str, look: Look
) -> None:
    """Draws two lines, named where they end."""
    axes.yaxis.set_major_locator(MaxNLocator(5))
    epochs = np.arange(1, len(history) + 1)
    marker = "o" if len(history) <= _MAX_MARKED_EPOCHS else ""
    ends = []
    for column, key, colour in (
        (field, "training", look.theme.main),
        (f"val_{field}", "validation", look.theme.contrary),
    ):
        values = _column(history, column)
        if np.isfinite(values).any():
            axes.plot(epochs, values, color=colour, linewidth=2, marker=marker, markersize=3)
            ends.append((values[np.isfinite(values)][-1], look.locale.text(key), colour))
    ends.sort(key=lambda end: end[0])
    for place, (value, text, colour) in enumerate(ends):
        # Labels of lines with close ends would overlap: move them apart.
        shift = 0 if len(ends) < 2 else (-7 if place == 0 else 7)
        label(axes, text, (epochs[-1], value), (8, shift), colour, annotation_clip=False)


def _column(history: Sequence[Mapping[str, float]], name: str) -> np.ndarray:
    return np.array([float(row.get(name, "nan") or "nan") for row in history])
