"""The common appearance of figures: size, fonts, axes, bars and long names."""

from __future__ import annotations

import logging
import textwrap
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

from matplotlib import font_manager, rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from evaluation.locales import ENGLISH, Locale
from evaluation.themes import LIGHT, Theme

WIDTH = 7.2  # inches; text of 10 points is legible from 640 pixels to a projector
NARROW = 3.9  # inches; on a phone
TITLE_SIZE = 14
TEXT_SIZE = 10
SMALL_SIZE = 8.5
TINY_SIZE = 7.6  # fits two lines next to one of twenty rows
_MAX_NAME_LENGTH = 48  # characters; longer names would leave no space for the data
# Fonts for scripts that matplotlib's own lacks, by parts of their names, as far as installed. Its
# last resort draws any other character as a box that names its script.
_OTHER_SCRIPTS = (
    *("CJK", "Noto Sans", "WenQuanYi", "Droid Sans Fallback", "Arial Unicode MS", "Segoe UI"),
    *("Hiragino Sans", "Yu Gothic", "Microsoft YaHei", "Malgun Gothic"),
)
_FALLBACKS = [
    name
    for name in sorted(set(font_manager.get_font_names()))
    if any(part in name for part in _OTHER_SCRIPTS) and "Emoji" not in name
]
# Class names are literal: `$x$` is no formula, and each character gets a font that has it.
PLAIN_TEXT: Any = {
    "text.parse_math": False,
    "font.family": ["DejaVu Sans", *_FALLBACKS, "Last Resort High-Efficiency"],
}
# It warns of every family that has no bold font.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)


@dataclass(frozen=True)
class Look:
    """What all figures have in common.

    Attributes:
        theme: the colours.
        locale: the language, with its names of classes and superclasses.
        narrow: whether the layout is that for phones: panels below each other.
    """

    theme: Theme = LIGHT
    locale: Locale = ENGLISH
    narrow: bool = False


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Has a function draw with `PLAIN_TEXT`, and makes its `look` from the keyword arguments."""

    @wraps(draw)
    def drawn(*records: Any, **style: Any) -> Figure:
        with rc_context(PLAIN_TEXT):
            return draw(*records, look=Look(**style))

    return drawn


def new_figure(
    look: Look, title: str, subtitle: str, *, height: float, width: float = WIDTH
) -> Figure:
    """Returns a figure with a title and a subtitle, which are wrapped.

    Args:
        look: its theme and layout.
        title: in the language of the figure.
        subtitle: in the language of the figure.
        height: inches, with a line for the title and one for the subtitle; a narrow figure is
            higher if they need more.
        width: inches; a narrow figure has that of a phone.
    """
    theme = look.theme
    width = NARROW if look.narrow else width
    # Characters of average width that fit into an inch.
    titles = textwrap.wrap(title, int(8.4 * width))
    lines = textwrap.wrap(subtitle, int((12 if look.narrow else 13) * width))
    title_height = 0.30 + 0.26 * (len(titles) - 1)  # inches
    header = 0.20 + title_height + 0.19 * len(lines)
    if look.narrow:
        height += max(header - 0.69, 0)
    figure = Figure(figsize=(width, height), facecolor=theme.background)
    figure.set_layout_engine(
        ConstrainedLayoutEngine(
            rect=(0.01, 0.01, 0.98, 1 - header / height - 0.01), w_pad=0.06, h_pad=0.06
        )
    )
    left = 0.12 / width
    title_style: dict[str, Any] = {"size": TITLE_SIZE, "weight": "bold", "color": theme.ink}
    figure.text(left, 1 - 0.12 / height, "\n".join(titles), va="top", **title_style)
    note_style: dict[str, Any] = {"size": TEXT_SIZE, "color": theme.muted, "linespacing": 1.3}
    below = 1 - (0.12 + title_height) / height
    figure.text(left, below, "\n".join(lines), va="top", **note_style)
    return figure


def style_axes(axes: Axes, theme: Theme, *, grid: str | None = "both", title: str = "") -> Axes:
    """Styles axes: no frame, a grid ("x", "y", "both" or None), muted labels, and a title."""
    axes.set_facecolor(theme.background)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0, labelsize=TEXT_SIZE, labelcolor=theme.muted, pad=5)
    axes.xaxis.label.set(color=theme.muted, size=TEXT_SIZE)
    axes.yaxis.label.set(color=theme.muted, size=TEXT_SIZE)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(True, axis=grid, color=theme.grid, linewidth=0.8)  # type: ignore[arg-type]
    if title:
        axes.set_title(title, loc="left", size=TEXT_SIZE, color=theme.ink, pad=8)
    return axes


def percent_axis(axes: Axes, locale: Locale, which: str, ticks: int = 5) -> None:
    """Formats the "x" or "y" axis from 0 to 1 in percent."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    positions = [index / ticks for index in range(ticks + 1)]
    axis.set_ticks(positions, [locale.percent(position, 0) for position in positions])


def add_legend(parent: Axes | Figure, **options: Any) -> None:
    """Adds a legend in the colours of the lines; options are those of `legend`."""
    options = {"fontsize": TEXT_SIZE, "handlelength": 1.7, **options}
    parent.legend(frameon=False, labelcolor="linecolor", **options)


def mark_value(
    axes: Axes, value: float, text: str, colour: str, theme: Theme, *, side: str
) -> None:
    """Draws a vertical line with a label at its "left" or "right"."""
    axes.axvline(value, color=colour, linewidth=1.8)
    on_left = side == "left"
    label(
        axes,
        text,
        (value, 1),
        (-6 if on_left else 6, -3),
        colour,
        xycoords=("data", "axes fraction"),
        ha="right" if on_left else "left",
        va="top",
        bbox={"facecolor": theme.background, "edgecolor": "none", "pad": 1},
    )


def label(
    axes: Axes,
    text: str,
    place: tuple[float, float],
    offset: tuple[float, float],
    colour: str,
    **options: Any,
) -> None:
    """Writes a text at an offset in points from a place; options are those of `annotate`."""
    options = {"size": TEXT_SIZE, "va": "center", **options}
    axes.annotate(text, place, xytext=offset, textcoords="offset points", color=colour, **options)


def horizontal_bars(
    axes: Axes,
    names: Sequence[str],
    values: Sequence[float],
    labels: Sequence[str],
    colours: str | Sequence[str],
    theme: Theme,
    *,
    rows: int = 2,
) -> None:
    """Draws horizontal bars, the first on top, with a label at the end of each.

    Args:
        axes: to draw on.
        names: shown at the left.
        values: lengths of the bars; negative ones point to the left.
        labels: shown at the ends of the bars.
        colours: one for all, or one per bar.
        theme: colours of the texts.
        rows: the minimal number of rows.
    """
    axes.barh(range(len(names)), values, height=0.62, color=colours)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", labelcolor=theme.ink)
    axes.set_xticks([])
    axes.set_ylim(max(len(names), rows) - 0.4, -0.6)
    for position, (value, text) in enumerate(zip(values, labels, strict=True)):
        offset, side = (5, "left") if value >= 0 else (-5, "right")
        label(axes, text, (value, position), (offset, 0), theme.ink, ha=side)


def readable_on(colour: object) -> str:
    """Returns the text colour with the better contrast on a colour."""
    red, green, blue = to_rgb(colour)  # type: ignore[arg-type]
    return "#10151c" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.55 else "#ffffff"


def fit_name(name: str, width: int = _MAX_NAME_LENGTH, lines: int = 1) -> str:
    """Wraps a name to a width in characters; its end is left out if it needs too many lines."""
    if any(unicodedata.east_asian_width(character) in "WF" for character in name):
        width //= 2  # these characters are twice as wide as the average
    wrapped = textwrap.wrap(name, width) or [name]
    if len(wrapped) > lines:
        wrapped = [*wrapped[: lines - 1], wrapped[lines - 1][: width - 1] + "…"]
    return "\n".join(wrapped)
