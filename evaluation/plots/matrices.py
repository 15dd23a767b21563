"""Who is taken for whom: confusion matrices of classes, of superclasses and of one class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from classifier.model_folder.folder import ClassNames
from evaluation.curves import superclass_confusion_matrix
from evaluation.plots.appearance import (
    SMALL_SIZE,
    TEXT_SIZE,
    TINY_SIZE,
    Look,
    new_figure,
    readable_on,
    style,
)

MAX_NAMED_CLASSES = 30  # more names than that do not fit beside a matrix
MAX_NUMBERED_CLASSES = 20  # nor do more numbers fit into its cells
_CONFUSIONS = 8


def confusion_matrix(
    matrix: np.ndarray | Sequence[Sequence[int]],
    names: ClassNames,
    *,
    level: str = "class",
    classes: Sequence[int] | None = None,
    theme: str = "light",
    language: str = "en",
    class_names: Mapping[str, str] | None = None,
) -> Figure:
    """Draws a confusion matrix, true classes in rows, each row as shares of its images.

    Args:
        matrix: counts, (C, C).
        names: the C classes; those with superclasses are sorted by them, with lines between.
        level: "class", or "superclass" for the matrix of superclasses.
        classes: draws these classes only, in this order, with their counts: the zoom.
        theme: "light" or "dark".
        language: "en" or "es".
        class_names: translations of class and superclass names.
    """
    look = Look(theme, language, class_names)
    counts = np.asarray(matrix)
    if level == "superclass":
        return _superclass_matrix(counts, names, look)
    if classes is not None:
        return _chosen_matrix(counts, names, list(classes), look)
    if len(names.classes) <= MAX_NAMED_CLASSES:
        order = by_superclass(names)
        title = look.text("confusion_classes", count=len(order))
        note = look.text("confusion_classes_note")
        return _named_matrix(
            counts, [names.classes[index] for index in order], order, look, title, note
        )
    return _large_matrix(counts, names, look)


def class_confusions(
    matrix: np.ndarray | Sequence[Sequence[int]],
    names: ClassNames,
    chosen: int,
    *,
    theme: str = "light",
    language: str = "en",
    class_names: Mapping[str, str] | None = None,
) -> Figure:
    """Draws a class's row and column: what it is taken for, and what is taken for it.

    Args:
        matrix: counts, (C, C).
        names: the C classes.
        chosen: index of the class.
        theme: "light" or "dark".
        language: "en" or "es".
        class_names: translations of class names.
    """
    look = Look(theme, language, class_names)
    counts = np.asarray(matrix)
    name = look.name(names.classes[chosen])
    note = look.text(
        "class_confusions_note", right=counts[chosen, chosen], support=counts[chosen].sum()
    )
    figure = new_figure(look, look.text("class_confusions", name=name), note, height=4.2)
    panels = figure.subplots(1, 2, sharex=True)
    for axes, values, title, colour in (
        (panels[0], counts[chosen], "taken_for", look.colours.contrary),
        (panels[1], counts[:, chosen], "taken_from", look.colours.main),
    ):
        others = np.delete(np.arange(len(counts)), chosen)
        top = others[np.argsort(-values[others], kind="stable")][:_CONFUSIONS]
        top = top[values[top] > 0]
        style(axes, look, grid=None, title=look.text(title))
        _bars(axes, [names.classes[index] for index in top], values[top], colour, look)
    return figure


def _bars(axes: Axes, labels: list[str], values: np.ndarray, colour: str, look: Look) -> None:
    positions = np.arange(len(labels))
    axes.barh(positions, values, height=0.62, color=colour)
    axes.set_yticks(positions, [look.name(label, wrap=18) for label in labels], parse_math=False)
    axes.tick_params(axis="y", labelcolor=look.colours.ink)
    axes.set_xticks([])
    axes.set_ylim(_CONFUSIONS - 0.5, -0.5)
    for position, value in zip(positions, values, strict=True):
        axes.annotate(
            look.number(value),
            (value, position),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            size=TEXT_SIZE,
            color=look.colours.ink,
        )
    axes.margins(x=0.16)
    if not len(labels):
        axes.text(0, 0, look.text("no_data"), color=look.colours.muted, size=TEXT_SIZE, va="center")


def _superclass_matrix(counts: np.ndarray, names: ClassNames, look: Look) -> Figure:
    if names.superclasses is None or names.superclass_of is None:
        raise ValueError("these classes have no superclasses")
    grouped = superclass_confusion_matrix(counts, names.superclass_of, len(names.superclasses))
    right = np.trace(grouped) / max(grouped.sum(), 1)
    title = look.text("confusion_superclasses", count=len(grouped))
    note = look.text("confusion_superclasses_note", right=look.percent(right, 1))
    order = list(range(len(grouped)))
    return _named_matrix(grouped, list(names.superclasses), order, look, title, note)


def _chosen_matrix(counts: np.ndarray, names: ClassNames, chosen: list[int], look: Look) -> Figure:
    labels = [names.classes[index] for index in chosen]
    title, note = look.text("confusion_chosen"), look.text("confusion_classes_note")
    return _named_matrix(counts, labels, chosen, look, title, note)


def _named_matrix(
    counts: np.ndarray, labels: list[str], order: list[int], look: Look, title: str, note: str
) -> Figure:
    """A matrix small enough for names at its sides and, mostly, numbers in its cells."""
    shares = _shares(counts)[np.ix_(order, order)]
    figure = new_figure(look, title, note, height=7.6)
    axes = figure.subplots()
    image = _image(axes, shares, look)
    if len(order) <= MAX_NAMED_CLASSES:
        positions = np.arange(len(order))
        _name_ticks(axes, positions, labels, look)
    else:
        axes.set_xticks([])
        axes.set_yticks([])
    _axis_names(axes, look)
    if len(order) > MAX_NUMBERED_CLASSES:
        return figure
    for row, column in np.argwhere(shares >= 0.005):
        share = shares[row, column]
        axes.text(
            column,
            row,
            look.number(100 * share),
            ha="center",
            va="center",
            size=SMALL_SIZE,
            weight="bold" if row == column else "normal",
            color=readable_on(image.cmap(image.norm(share)), look),
        )
    return figure


def _large_matrix(counts: np.ndarray, names: ClassNames, look: Look) -> Figure:
    """A matrix of many classes: a picture, with the superclasses' names at its sides."""
    order = by_superclass(names)
    grouped = names.superclass_of is not None
    note = look.text("confusion_grouped_note" if grouped else "confusion_classes_note")
    title = look.text("confusion_classes", count=len(order))
    figure = new_figure(look, title, note, height=8.1)
    axes = figure.subplots()
    image = _image(axes, _shares(counts)[np.ix_(order, order)], look)
    if grouped:
        _superclass_ticks(axes, names, order, look)
    _axis_names(axes, look)
    bar = figure.colorbar(image, ax=axes, location="bottom", shrink=0.45, aspect=36, pad=0.015)
    ticks = [0, 0.05, 0.2, 0.5, 1]
    bar.set_ticks(ticks, labels=[look.percent(tick) for tick in ticks])
    bar.ax.tick_params(length=0, labelsize=SMALL_SIZE, labelcolor=look.colours.muted)
    bar.outline.set_visible(False)
    return figure


def _superclass_ticks(axes: Axes, names: ClassNames, order: list[int], look: Look) -> None:
    groups = np.asarray(names.superclass_of)[order]
    limits = np.flatnonzero(np.diff(groups)) + 0.5
    for limit in limits:
        axes.axhline(limit, color=look.colours.background, linewidth=1.1)
        axes.axvline(limit, color=look.colours.background, linewidth=1.1)
    present = np.unique(groups)
    centres = np.array([np.flatnonzero(groups == group).mean() for group in present])
    _name_ticks(axes, centres, [(names.superclasses or ())[group] for group in present], look)


def _name_ticks(axes: Axes, positions: np.ndarray, labels: Sequence[str], look: Look) -> None:
    shown = [look.name(label, wrap=19) for label in labels]
    text: dict[str, Any] = {
        "size": TINY_SIZE,
        "linespacing": 0.9,
        "parse_math": False,
        "color": look.colours.ink,
    }
    axes.set_xticks(positions, shown, rotation=90, **text)
    axes.set_yticks(positions, shown, **text)


def _image(axes: Axes, shares: np.ndarray, look: Look) -> AxesImage:
    style(axes, look, grid=None)
    # The square root shows a confusion of 5% beside a diagonal of 80%.
    norm = PowerNorm(0.5, vmin=0, vmax=1)
    return axes.imshow(shares, cmap=look.colours.colormap(), norm=norm, interpolation="nearest")


def _axis_names(axes: Axes, look: Look) -> None:
    axes.set_xlabel(look.text("predicted"), labelpad=8)
    axes.set_ylabel(look.text("true"), labelpad=8)


def by_superclass(names: ClassNames) -> list[int]:
    """Returns the order in which a matrix shows the classes: superclass by superclass."""
    if names.superclass_of is None:
        return list(range(len(names.classes)))
    return np.argsort(names.superclass_of, kind="stable").tolist()


def _shares(counts: np.ndarray) -> np.ndarray:
    """Rows as shares of their sum; a row without images is zero."""
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
