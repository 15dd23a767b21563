"""Comparisons of models: robustness to corruptions, differences per class, ablations."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evaluation.corruptions import LEVELS
from evaluation.plots.appearance import (
    NARROW,
    Look,
    add_legend,
    fit_name,
    horizontal_bars,
    new_figure,
    style_axes,
    styled,
)

_CHANGES = 8  # classes shown at each end of the differences
_SLIDE = (9.6, 5.4)  # inches: 16:9


@styled
def robustness_curves(results: Mapping[str, Mapping[str, Any]], *, look: Look) -> Figure:
    """Draws the top-1 accuracy of several models by corruption level, in the format of a slide.

    Args:
        results: for each corruption (of `LEVELS`) its `levels`, a list of numbers from
            the original to the strongest, and `top1`, a list of accuracies for each model.
        look: of the figure.

    Example:
        >>> results = {"shift": {"levels": [0, 4, 8], "top1": {"mlp": [0.5, 0.3, 0.1]}}}
        >>> figure = robustness_curves(results)
    """
    locale, narrow = look.locale, look.narrow
    kinds = [kind for kind in LEVELS if kind in results]
    width, height = (NARROW, 1.0 + 1.9 * len(kinds)) if narrow else _SLIDE
    title, note = locale.text("robustness"), locale.text("robustness_note")
    figure = new_figure(look, title, note, width=width, height=height)
    shares = [share for kind in kinds for top1 in results[kind]["top1"].values() for share in top1]
    panels = _panels(figure, len(kinds), narrow)
    for axes, kind in zip(panels, kinds, strict=True):
        _robustness_panel(axes, kind, results[kind], look)
        axes.set_ylim(0, 1.08 * (max(shares, default=0) or 1))
    handles, columns = panels[0].get_lines(), 2 if narrow else 4
    add_legend(figure, handles=handles, loc="outside lower center", ncols=columns)
    return figure


@styled
def class_differences(
    accuracy: Mapping[str, Mapping[str, float | None]], first: str, second: str, *, look: Look
) -> Figure:
    """Draws the classes with the largest differences in accuracy between two models.

    The accuracy is given by model and class, None without images.
    """
    theme, locale, narrow = look.theme, look.locale, look.narrow
    chosen = _largest_changes(accuracy[first], accuracy[second])
    note = locale.text("class_differences_note", first=first, second=second)
    height = 1.2 + 0.27 * max(len(chosen), 2)
    figure = new_figure(look, locale.text("class_differences"), note, height=height)
    axes = style_axes(figure.subplots(), theme, grid=None)
    values = [100 * change for change, _ in chosen]
    labels = [("+" if value > 0 else "") + locale.number(value) for value in values]
    colours = [theme.main if value >= 0 else theme.contrary for value in values]
    shown = [fit_name(locale.name(name), *([17] if narrow else [])) for _, name in chosen]
    horizontal_bars(axes, shown, values, labels, colours, theme)
    axes.axvline(0, color=theme.muted, linewidth=1)
    axes.margins(x=0.22 if narrow else 0.1)
    return figure


@styled
def ablation_bars(rows: Sequence[Mapping[str, Any]], *, look: Look) -> Figure:
    """Draws the top-1 accuracy of a recipe as its components are added one by one.

    The rows, from `ablation.json`, have a `name`, a `category`, and `top1`, one accuracy per seed.
    """
    theme, locale, narrow = look.theme, look.locale, look.narrow
    height = 1.2 + (0.42 if narrow else 0.34) * max(len(rows), 2)
    figure = new_figure(look, locale.text("ablation"), locale.text("ablation_note"), height=height)
    axes = style_axes(figure.subplots(), theme, grid=None)
    categories = list(dict.fromkeys(row["category"] for row in rows))
    means = [statistics.mean(row["top1"]) for row in rows]
    labels = [locale.percent(mean) for mean in means]
    for index, row in enumerate(rows):
        if len(row["top1"]) > 1:
            labels[index] += f" ± {locale.number(100 * statistics.stdev(row['top1']), 1)}"
    colours = [theme.series[categories.index(row["category"])] for row in rows]
    names = [locale.text(f"ablation_{row['name']}") for row in rows]
    if narrow:
        names = [fit_name(name, 17, lines=2) for name in names]
    horizontal_bars(axes, names, means, labels, colours, theme)
    axes.margins(x=0.4 if narrow else 0.16)
    return figure


def _panels(figure: Figure, count: int, narrow: bool) -> list[Axes]:
    """A large panel at the left, the others in two rows beside it; or all below each other."""
    if narrow:
        return list(np.atleast_1d(figure.subplots(count, 1)))
    columns = count // 2
    grid = figure.add_gridspec(2, 1 + columns, width_ratios=[1.6] + [1] * columns)
    panels = [figure.add_subplot(grid[:, 0])]
    for place in range(count - 1):
        axes = figure.add_subplot(grid[place // columns, 1 + place % columns])
        axes.tick_params(labelleft=place % columns == 0)
        panels.append(axes)
    return panels


def _robustness_panel(axes: Axes, kind: str, result: Mapping[str, Any], look: Look) -> None:
    theme, locale = look.theme, look.locale
    style_axes(axes, theme, grid="y", title=locale.text(kind))
    levels = result["levels"]
    for order, (model, top1) in enumerate(result["top1"].items()):
        colour = theme.series[order % len(theme.series)]
        axes.plot(levels, top1, color=colour, label=model, linewidth=2.4)
    if levels[0] > levels[-1]:  # brightness decreases: keep the original at the left
        axes.invert_xaxis()
    axes.set_xlabel(locale.text(f"{kind}_axis"))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(lambda value, _: locale.plain(value))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(lambda value, _: locale.percent(value, 0))


def _largest_changes(
    first: Mapping[str, float | None], second: Mapping[str, float | None]
) -> list[tuple[float, str]]:
    """Returns (difference of accuracies, class), largest gains first, largest losses last."""
    changes = [
        (value - other, name)
        for name, value in first.items()
        if value is not None and (other := second.get(name)) is not None
    ]
    changes.sort(key=lambda change: -change[0])
    if len(changes) <= 2 * _CHANGES:
        return changes
    return changes[:_CHANGES] + changes[-_CHANGES:]
