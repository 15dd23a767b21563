"""Comparisons of models: robustness to corruptions, differences per class, ablations."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.ticker import MaxNLocator

from evaluation.corruptions import LEVELS
from evaluation.plots.appearance import (
    NARROW,
    SMALL_SIZE,
    TEXT_SIZE,
    Look,
    fit_name,
    horizontal_bars,
    label,
    new_figure,
    plain_text,
    style_axes,
)

_CHANGES = 8  # classes shown at each end of the differences
_SLIDE = (9.6, 5.4)  # inches: 16:9
_EXAMPLE_SIZE = 27.0  # points: the side of a corrupted example
_LINE = 12.5  # points between the figures at the ends of two curves


@plain_text
def robustness_curves(
    results: Mapping[str, Mapping[str, Any]],
    *,
    examples: Mapping[str, Sequence[np.ndarray]] | None = None,
    **style: Any,
) -> Figure:
    """Draws the top-1 accuracy of several models by corruption level, in the format of a slide.

    Args:
        results: for each corruption (of `LEVELS`) its `levels`, a list of numbers from
            the original to the strongest, and `top1`, a list of accuracies for each model.
        examples: for each corruption an image at each of its levels, uint8, (height, width, 3);
            some of them are shown above their levels.

    Example:
        >>> results = {"shift": {"levels": [0, 4, 8], "top1": {"mlp": [0.5, 0.3, 0.1]}}}
        >>> figure = robustness_curves(results)
    """
    look = Look(**style)
    theme, locale, narrow = look.theme, look.locale, look.narrow
    kinds = [kind for kind in LEVELS if kind in results]
    models = list(dict.fromkeys(name for kind in kinds for name in results[kind]["top1"]))
    width, height = (NARROW, 0.7 + 2.3 * len(kinds)) if narrow else _SLIDE
    title, note = locale.text("robustness"), locale.text("robustness_note")
    figure = new_figure(look, title, note, width=width, height=height)
    panels = _panels(figure, len(kinds), narrow)
    shares = [share for kind in kinds for top1 in results[kind]["top1"].values() for share in top1]
    for axes, kind in zip(panels, kinds, strict=True):
        large = narrow or axes is panels[0]
        places = _shown_levels(len(results[kind]["levels"]), limit=5 if large else 4)
        _robustness_panel(axes, kind, results[kind], models, places, look)
        axes.set_ylim(0, 1.08 * (max(shares, default=0) or 1))
        images = (examples or {}).get(kind, ())
        if len(images):
            _show_examples(axes, results[kind]["levels"], images, places)
        axes.set_title(
            locale.text(kind),
            loc="left",
            pad=_EXAMPLE_SIZE + 10 if len(images) else 8,
            size=TEXT_SIZE + 1,
            weight="bold",
            color=theme.ink,
        )
    # The labels at the ends of the curves must not overlap: this needs the final layout.
    figure.draw_without_rendering()
    for axes, kind in zip(panels, kinds, strict=True):
        _label_ends(axes, results[kind], models, look, named=narrow or axes is panels[0])
    return figure


@plain_text
def class_differences(
    first: Mapping[str, Any],
    second: Mapping[str, Any],
    names: tuple[str, str],
    **style: Any,
) -> Figure:
    """Draws the classes with the largest differences in accuracy between two models.

    Both are given by the content of `evaluation.json`, with the same classes, and by name.
    """
    look = Look(**style)
    theme, locale, narrow = look.theme, look.locale, look.narrow
    chosen = _largest_changes(first, second)
    note = locale.text("class_differences_note", first=names[0], second=names[1])
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


@plain_text
def ablation_bars(rows: Sequence[Mapping[str, Any]], **style: Any) -> Figure:
    """Draws the top-1 accuracy of a recipe as its components are added one by one.

    The rows, from `ablation.json`, have a `name`, a `category`, and `top1`, one accuracy per seed.
    """
    look = Look(**style)
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
        return list(np.atleast_1d(figure.subplots(max(count, 1), 1)))[:count]
    columns = count // 2
    grid = figure.add_gridspec(2, 1 + columns, width_ratios=[1.6] + [1] * columns)
    panels = [figure.add_subplot(grid[:, 0])]
    for place in range(count - 1):
        axes = figure.add_subplot(grid[place // columns, 1 + place % columns])
        axes.tick_params(labelleft=place % columns == 0)
        panels.append(axes)
    return panels


def _shown_levels(levels: int, *, limit: int) -> list[int]:
    """Returns the indices of evenly spaced levels, including the first and the last."""
    for gaps in range(min(limit, levels) - 1, 1, -1):
        if (levels - 1) % gaps == 0:
            return list(range(0, levels, (levels - 1) // gaps))
    return sorted({0, levels - 1})


def _robustness_panel(
    axes: Axes,
    kind: str,
    result: Mapping[str, Any],
    models: Sequence[str],
    places: Sequence[int],
    look: Look,
) -> None:
    theme, locale = look.theme, look.locale
    style_axes(axes, theme, grid="y")
    levels = result["levels"]
    for order, model in enumerate(models):
        if model in result["top1"]:
            colour = theme.series[order % len(theme.series)]
            top1 = result["top1"][model]
            axes.plot(levels, top1, color=colour, linewidth=2.4, solid_capstyle="round")
            axes.plot(levels[-1], top1[-1], "o", color=colour, markersize=5, clip_on=False)
    if levels[0] > levels[-1]:  # brightness decreases: keep the original at the left
        axes.invert_xaxis()
    axes.set_xlabel(locale.text(f"{kind}_axis"))
    ticks = [levels[place] for place in places]
    axes.set_xticks(ticks, [locale.plain(tick) for tick in ticks])
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(lambda value, _: locale.percent(value, 0))


def _show_examples(
    axes: Axes, levels: Sequence[float], images: Sequence[np.ndarray], places: Sequence[int]
) -> None:
    """Shows images above their levels, at the top of the axes."""
    for place in places:
        image = images[place]
        axes.add_artist(
            AnnotationBbox(
                OffsetImage(image, zoom=_EXAMPLE_SIZE / image.shape[0], interpolation="nearest"),
                (levels[place], 1),
                xycoords=("data", "axes fraction"),
                xybox=(0, 4),
                boxcoords="offset points",
                box_alignment=(0.5, 0),
                frameon=False,
                pad=0,
                annotation_clip=False,
            )
        )


def _label_ends(
    axes: Axes, result: Mapping[str, Any], models: Sequence[str], look: Look, *, named: bool
) -> None:
    """Labels each curve at its end with the accuracy at the strongest level."""
    points = 72 / axes.figure.dpi
    ends = sorted((result["top1"][model][-1], model) for model in models if model in result["top1"])
    lowest = -np.inf
    for share, model in ends:
        colour = look.theme.series[models.index(model) % len(look.theme.series)]
        text = look.locale.percent(share, 0)
        end = (result["levels"][-1], share)
        height = axes.transData.transform(end)[1] * points
        lowest = max(height, lowest + (2 if named else 1) * _LINE)
        label(
            axes,
            f"{model}\n{text}" if named else text,
            end,
            (8, lowest - height),
            colour,
            size=TEXT_SIZE if named else SMALL_SIZE,
            weight="bold" if named else "normal",
            annotation_clip=False,
        )


def _largest_changes(
    first: Mapping[str, Any], second: Mapping[str, Any]
) -> list[tuple[float, str]]:
    """Returns (difference of accuracies, class), largest gains first, largest losses last."""
    other = {row["name"]: row["accuracy"] for row in second["per_class"]}
    changes = [
        (row["accuracy"] - other[row["name"]], row["name"])
        for row in first["per_class"]
        if row["accuracy"] is not None and other.get(row["name"]) is not None
    ]
    changes.sort(key=lambda change: -change[0])
    if len(changes) <= 2 * _CHANGES:
        return changes
    return changes[:_CHANGES] + changes[-_CHANGES:]
