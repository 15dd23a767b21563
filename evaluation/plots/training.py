"""Training curves: accuracy, loss and learning rate per epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from classifier.errors import InputError
from evaluation.curves import Records
from evaluation.plots.appearance import Look, add_legend, new_figure, style_axes, styled


@styled
def training_curves(found: Records, *, look: Look) -> Figure:
    """Draws the columns of `history.csv` over the epochs; missing ones are skipped."""
    history = found.history
    if not history:
        raise InputError("the model has no training history")
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
    axes.yaxis.set_major_locator(MaxNLocator(5))
    epochs = np.arange(1, len(history) + 1)
    for column, key, colour in (
        (field, "training", look.theme.main),
        (f"val_{field}", "validation", look.theme.contrary),
    ):
        values = _column(history, column)
        if np.isfinite(values).any():
            line: dict[str, Any] = {"color": colour, "label": look.locale.text(key)}
            axes.plot(epochs, values, linewidth=2, marker=".", **line)
    if axes.lines:
        add_legend(axes)


def _column(history: Sequence[Mapping[str, float]], name: str) -> np.ndarray:
    return np.array([row.get(name, np.nan) for row in history], float)
