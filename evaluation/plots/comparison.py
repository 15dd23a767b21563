"""Models beside each other: what disturbed images cost them, and where their classes differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.ticker import MaxNLocator

from evaluation.plots.appearance import SMALL_SIZE, TEXT_SIZE, Look, new_figure, style

DISTURBANCES = ("shift", "rotation", "blur", "brightness", "noise")
_CHANGES = 8  # classes shown at each end of the differences
_SLIDE = (9.6, 5.4)  # inches: 16:9
_PICTURE = 27.0  # points: the side of a disturbed example
_LINE = 12.5  # points between the figures at the ends of two curves


def robustness_curves(
    results: Mapping[str, Mapping[str, Any]],
    *,
    examples: Mapping[str, Sequence[np.ndarray]] | None = None,
    theme: str = "light",
    language: str = "en",
    class_names: Mapping[str, str] | None = None,
) -> Figure:
    """Draws the top-1 of several models as the images are disturbed more and more, for a slide.

    Args:
        results: for each disturbance (of `DISTURBANCES`) its `levels`, a list of numbers from
            untouched to worst, and `top1`, for each model's name a list of shares as long.
        examples: for each disturbance a picture at each of its levels, uint8, (height, width, 3);
            some of them are shown above the levels that they stand for.
        theme: "light" or "dark".
        language: "en" or "es".
        class_names: taken like the other figures do; this one names no class.

    Example:
        >>> results = {"shift": {"levels": [0, 4, 8], "top1": {"mlp": [0.5, 0.3, 0.1]}}}
        >>> figure = robustness_curves(results)
    """
    look = Look(theme, language, class_names)
    kinds = [kind for kind in DISTURBANCES if kind in results]
    models = list(dict.fromkeys(name for kind in kinds for name in results[kind]["top1"]))
    width, height = _SLIDE
    figure = new_figure(
        look, look.text("robustness"), look.text("robustness_note"), width=width, height=height
    )
    panels = _panels(figure, len(kinds))
    shares = [share for kind in kinds for top1 in results[kind]["top1"].values() for share in top1]
    for axes, kind in zip(panels, kinds, strict=True):
        large = axes is panels[0]
        places = _shown_places(len(results[kind]["levels"]), most=5 if large else 4)
        _robustness_panel(axes, kind, results[kind], models, places, look)
        axes.set_ylim(0, 1.08 * (max(shares, default=0) or 1))
        pictures = (examples or {}).get(kind, ())
        if len(pictures):
            _show_examples(axes, results[kind]["levels"], pictures, places)
        axes.set_title(
            look.text(kind),
            loc="left",
            pad=_PICTURE + 10 if len(pictures) else 8,
            size=TEXT_SIZE + 1,
            weight="bold",
            color=look.colours.ink,
        )
    # The figures at the ends of the curves must not overlap: that needs the final layout.
    figure.draw_without_rendering()
    for axes, kind in zip(panels, kinds, strict=True):
        _label_ends(axes, results[kind], models, look, named=axes is panels[0])
    return figure


def class_differences(
    first: Mapping[str, Any],
    second: Mapping[str, Any],
    names: tuple[str, str],
    *,
    theme: str = "light",
    language: str = "en",
    class_names: Mapping[str, str] | None = None,
) -> Figure:
    """Draws the classes at which a model is most above and most below another.

    Args:
        first: the content of the model's `evaluation.json`.
        second: that of the other, of the same classes.
        names: what the two are called.
        theme: "light" or "dark".
        language: "en" or "es".
        class_names: translations of class names.
    """
    look = Look(theme, language, class_names)
    chosen = _largest_changes(first, second)
    note = look.text("class_differences_note", first=names[0], second=names[1])
    height = 1.2 + 0.27 * max(len(chosen), 2)
    figure = new_figure(look, look.text("class_differences"), note, height=height)
    axes = style(figure.subplots(), look, grid=None)
    values = np.array([100 * change for change, _ in chosen])
    colours = [look.colours.main if value >= 0 else look.colours.contrary for value in values]
    axes.barh(range(len(chosen)), values, height=0.62, color=colours)
    labels = [look.name(name) for _, name in chosen]
    axes.set_yticks(range(len(chosen)), labels, parse_math=False)
    axes.tick_params(axis="y", labelcolor=look.colours.ink)
    axes.set_xticks([])
    axes.set_ylim(max(len(chosen), 2) - 0.4, -0.6)
    axes.axvline(0, color=look.colours.muted, linewidth=1)
    for position, value in enumerate(values):
        sign = "+" if value > 0 else "−" if value < 0 else ""
        axes.annotate(
            sign + look.number(abs(value)),
            (value, position),
            xytext=(5 if value >= 0 else -5, 0),
            textcoords="offset points",
            ha="left" if value >= 0 else "right",
            va="center",
            size=TEXT_SIZE,
            color=look.colours.ink,
        )
    axes.margins(x=0.1)
    return figure


def _panels(figure: Figure, count: int) -> list[Axes]:
    """A large panel at the left, the others in two rows beside it."""
    columns = count // 2
    grid = figure.add_gridspec(2, 1 + columns, width_ratios=[1.6] + [1] * columns)
    panels = [figure.add_subplot(grid[:, 0])]
    for place in range(count - 1):
        axes = figure.add_subplot(grid[place // columns, 1 + place % columns])
        axes.tick_params(labelleft=place % columns == 0)
        panels.append(axes)
    return panels


def _shown_places(levels: int, *, most: int) -> list[int]:
    """The indices of evenly spaced levels, the first and the last among them."""
    for gaps in range(min(most, levels) - 1, 1, -1):
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
    style(axes, look, grid="y")
    levels = result["levels"]
    for order, model in enumerate(models):
        if model in result["top1"]:
            colour = look.colours.series[order % len(look.colours.series)]
            top1 = result["top1"][model]
            axes.plot(levels, top1, color=colour, linewidth=2.4, solid_capstyle="round")
            axes.plot(levels[-1], top1[-1], "o", color=colour, markersize=5, clip_on=False)
    if levels[0] > levels[-1]:  # brightness falls: untouched stays at the left
        axes.invert_xaxis()
    axes.set_xlabel(look.text(f"{kind}_axis"))
    ticks = [levels[place] for place in places]
    axes.set_xticks(ticks, [look.plain(tick) for tick in ticks])
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(lambda value, _: look.percent(value))


def _show_examples(
    axes: Axes, levels: Sequence[float], pictures: Sequence[np.ndarray], places: Sequence[int]
) -> None:
    """Shows pictures above the levels that they stand for, where the axes end."""
    for place in places:
        picture = pictures[place]
        axes.add_artist(
            AnnotationBbox(
                OffsetImage(picture, zoom=_PICTURE / picture.shape[0], interpolation="nearest"),
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
    """Writes what each model has left at the worst level beside the end of its curve."""
    points = 72 / axes.figure.dpi
    ends = sorted((result["top1"][model][-1], model) for model in models if model in result["top1"])
    lowest = -np.inf
    for share, model in ends:
        colour = look.colours.series[models.index(model) % len(look.colours.series)]
        text = look.percent(share)
        end = (result["levels"][-1], share)
        height = axes.transData.transform(end)[1] * points
        place = max(height, lowest + (2 if named else 1) * _LINE)
        lowest = place
        axes.annotate(
            f"{model}\n{text}" if named else text,
            end,
            xytext=(8, place - height),
            textcoords="offset points",
            va="center",
            size=TEXT_SIZE if named else SMALL_SIZE,
            weight="bold" if named else "normal",
            color=colour,
            parse_math=False,
            annotation_clip=False,
        )


def _largest_changes(
    first: Mapping[str, Any], second: Mapping[str, Any]
) -> list[tuple[float, str]]:
    """(difference of accuracies, class), the greatest gains first, then the greatest losses."""
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
