"""Confusion matrices of classes and of superclasses, and the confusions of one class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from classifier.errors import InputError
from classifier.model_folder.folder import ClassNames
from evaluation.curves import Records, by_superclass, count_superclasses, normalise_rows
from evaluation.plots.appearance import (
    SMALL_SIZE,
    TEXT_SIZE,
    TINY_SIZE,
    Look,
    fit_name,
    horizontal_bars,
    new_figure,
    readable_on,
    style_axes,
    styled,
)

MAX_NAMED_CLASSES = 30  # more names do not fit next to a matrix
MAX_NUMBERED_CLASSES = 20  # more numbers do not fit into its cells
MAX_NUMBERED_NARROW = 10
_CONFUSIONS = 8


@styled
def confusion_matrix(found: Records, classes: Sequence[int] = (), *, look: Look) -> Figure:
    """Draws a confusion matrix, normalised by row: rows are true classes.

    Without chosen classes it shows all, sorted by superclass if they have any.
    """
    names = found.names
    if not classes and len(names.classes) > MAX_NAMED_CLASSES:
        return _large_matrix(found.matrix, names, look)
    order = list(classes) or by_superclass(names)
    title = look.locale.text("confusion_classes", count=len(order))
    if classes:
        title = look.locale.text("confusion_chosen")
    shares = normalise_rows(found.matrix)[np.ix_(order, order)]
    shown = [names.classes[index] for index in order]
    return _named_matrix(shares, shown, title, look.locale.text("confusion_classes_note"), look)


@styled
def superclass_confusion_matrix(found: Records, *, look: Look) -> Figure:
    """Draws the confusion matrix of the superclasses; raises `InputError` if there are none."""
    names = found.names
    if names.superclasses is None or names.superclass_of is None:
        raise InputError("the classes have no superclasses")
    grouped = count_superclasses(found.matrix, names.superclass_of, len(names.superclasses))
    right = np.trace(grouped) / max(grouped.sum(), 1)
    title = look.locale.text("confusion_superclasses", count=len(grouped))
    note = look.locale.text("confusion_superclasses_note", right=look.locale.percent(right))
    return _named_matrix(normalise_rows(grouped), names.superclasses, title, note, look)


@styled
def class_confusions(found: Records, classes: Sequence[int], *, look: Look) -> Figure:
    """Draws the false negatives and the false positives of a class, the first of the given."""
    counts, chosen = found.matrix, classes[0]
    theme, locale, narrow = look.theme, look.locale, look.narrow
    title = locale.text(
        "class_confusions", name=fit_name(locale.name(found.names.classes[chosen]), 36)
    )
    right, support = counts[chosen, chosen], counts[chosen].sum()
    note = locale.text(
        "class_confusions_note", right=locale.number(right), support=locale.number(support)
    )
    figure = new_figure(look, title, note, height=7.0 if narrow else 4.2)
    panels = figure.subplots(*((2, 1) if narrow else (1, 2)), sharex=True)
    for axes, values, key, colour in (
        (panels[0], counts[chosen], "taken_for", theme.contrary),
        (panels[1], counts[:, chosen], "taken_from", theme.main),
    ):
        others = np.delete(np.arange(len(counts)), chosen)
        top = others[np.argsort(-values[others], kind="stable")][:_CONFUSIONS]
        top = top[values[top] > 0]
        labels = [locale.number(value) for value in values[top]]
        shown = [fit_name(locale.name(found.names.classes[index]), 18, lines=2) for index in top]
        style_axes(axes, theme, grid=None, title=locale.text(key))
        horizontal_bars(axes, shown, values[top].tolist(), labels, colour, theme, rows=_CONFUSIONS)
        axes.margins(x=0.16)
        if not len(top):
            text = locale.text("no_data")
            axes.text(0, 0, text, color=theme.muted, size=TEXT_SIZE, va="center")
    return figure


def _named_matrix(
    shares: np.ndarray, names: Sequence[str], title: str, note: str, look: Look
) -> Figure:
    """Draws a matrix with names and numbers, if they fit."""
    figure = new_figure(look, title, note, height=4.6 if look.narrow else 7.6)
    axes = figure.subplots()
    image = _draw_image(axes, shares, look)
    if len(names) <= MAX_NAMED_CLASSES:
        _name_ticks(axes, np.arange(len(names)), names, look)
    else:
        axes.set_xticks([])
        axes.set_yticks([])
    if len(names) > (MAX_NUMBERED_NARROW if look.narrow else MAX_NUMBERED_CLASSES):
        return figure
    for row, column in np.argwhere(shares >= 0.005):
        share = shares[row, column]
        axes.text(
            column,
            row,
            look.locale.number(100 * share),
            ha="center",
            va="center",
            size=SMALL_SIZE,
            weight="bold" if row == column else "normal",
            color=readable_on(image.cmap(image.norm(share))),
        )
    return figure


def _large_matrix(counts: np.ndarray, names: ClassNames, look: Look) -> Figure:
    """Draws a matrix of many classes as an image, labelled with the superclasses."""
    locale, narrow = look.locale, look.narrow
    order = by_superclass(names)
    grouped = names.superclass_of is not None
    note = locale.text("confusion_grouped_note" if grouped else "confusion_classes_note")
    title = locale.text("confusion_classes", count=len(order))
    figure = new_figure(look, title, note, height=5.0 if narrow else 8.1)
    axes = figure.subplots()
    image = _draw_image(axes, normalise_rows(counts)[np.ix_(order, order)], look)
    if grouped:
        _name_superclasses(axes, names, order, look)
    shrink = 0.95 if narrow else 0.45
    bar = figure.colorbar(image, ax=axes, location="bottom", shrink=shrink, aspect=36, pad=0.015)
    ticks = [0, 0.05, 0.2, 0.5, 1]
    bar.set_ticks(ticks, labels=[locale.percent(tick, 0) for tick in ticks])
    bar.ax.tick_params(length=0, labelsize=SMALL_SIZE, labelcolor=look.theme.muted)
    bar.outline.set_visible(False)
    return figure


def _name_superclasses(axes: Axes, names: ClassNames, order: list[int], look: Look) -> None:
    """Draws lines between the superclasses and labels them."""
    groups = np.asarray(names.superclass_of)[order]
    for limit in np.flatnonzero(np.diff(groups)) + 0.5:
        axes.axhline(limit, color=look.theme.background, linewidth=1.1)
        axes.axvline(limit, color=look.theme.background, linewidth=1.1)
    present = np.unique(groups)
    centres = np.array([np.flatnonzero(groups == group).mean() for group in present])
    shown = [(names.superclasses or ())[group] for group in present]
    _name_ticks(axes, centres, shown, look)


def _name_ticks(axes: Axes, positions: np.ndarray, names: Sequence[str], look: Look) -> None:
    width, lines = (17, 1) if look.narrow else (19, 2)
    shown = [fit_name(look.locale.name(name), width, lines=lines) for name in names]
    options: dict[str, Any] = {"size": TINY_SIZE, "linespacing": 0.9, "color": look.theme.ink}
    axes.set_xticks(positions, shown, rotation=90, **options)
    axes.set_yticks(positions, shown, **options)


def _draw_image(axes: Axes, shares: np.ndarray, look: Look) -> AxesImage:
    style_axes(axes, look.theme, grid=None)
    axes.set_xlabel(look.locale.text("predicted"), labelpad=8)
    axes.set_ylabel(look.locale.text("true"), labelpad=8)
    colours = LinearSegmentedColormap.from_list("ramp", look.theme.ramp)
    # The square root makes a confusion of 5% visible next to a diagonal of 80%.
    norm = PowerNorm(0.5, vmin=0, vmax=1)
    return axes.imshow(shares, cmap=colours, norm=norm, interpolation="nearest")
