"""One visual language for every figure: colours of two themes, type, axes, numbers and names."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from evaluation.plots.wording import TEXTS

WIDTH = 7.2  # inches; with type of 10 points a figure reads well from 360 pixels to a beamer
TITLE_SIZE = 14
TEXT_SIZE = 10
SMALL_SIZE = 8.5
TINY_SIZE = 7.6  # two lines of it beside a twentieth of a matrix
_LONGEST_NAME = 48  # characters; a longer name would push the data out of the figure


@dataclass(frozen=True)
class Theme:
    """Colours of a theme; text and series have a contrast of 4.5 or more on the background.

    `series` are told apart by people of any colour vision: neighbours differ in hue and lightness.
    """

    background: str
    ink: str
    muted: str
    grid: str
    series: tuple[str, ...]
    ramp: tuple[str, ...]  # from nothing to everything, for matrices

    @property
    def main(self) -> str:
        """The colour of the one series that a figure is about."""
        return self.series[0]

    @property
    def contrary(self) -> str:
        """The colour of its opposite: worst against best, validation against training."""
        return self.series[1]

    def colormap(self) -> LinearSegmentedColormap:
        """The ramp as a colour map."""
        return LinearSegmentedColormap.from_list("ramp", self.ramp)


THEMES: dict[str, Theme] = {
    "light": Theme(
        background="#ffffff",
        ink="#1c2430",
        muted="#5b6675",
        grid="#e3e7ed",
        series=("#1f5fa8", "#b4500f", "#0f766e", "#7440a8", "#826200", "#b0305e"),
        ramp=("#f6f8fb", "#cfe0f2", "#86b2de", "#3b7cc0", "#1c559a", "#0a2a55"),
    ),
    "dark": Theme(
        background="#12161d",
        ink="#e8ecf2",
        muted="#9aa6b5",
        grid="#2a313c",
        series=("#74b0ee", "#f39a5b", "#4cc7b8", "#bd9bea", "#dcc05a", "#f187aa"),
        ramp=("#191f28", "#1b3556", "#23588f", "#4a90d6", "#9cc8f5", "#f1f8ff"),
    ),
}


@dataclass(frozen=True)
class Look:
    """How a figure appears and speaks: its theme, its language and the names it uses.

    Attributes:
        theme: "light" or "dark".
        language: "en" or "es".
        class_names: translations of class and superclass names; others appear as they are,
            with spaces for underscores.
    """

    theme: str = "light"
    language: str = "en"
    class_names: Mapping[str, str] | None = field(default=None, hash=False)

    @property
    def colours(self) -> Theme:
        """The colours of the theme."""
        return THEMES[self.theme]

    def text(self, key: str, **values: object) -> str:
        """A sentence of the figures in this language."""
        return TEXTS[self.language][key].format(**values)

    def name(self, name: str, *, wrap: int | None = None) -> str:
        """A class name as people read it, on lines of at most `wrap` characters if given."""
        shown = (self.class_names or {}).get(name, name).replace("_", " ")
        shown = textwrap.shorten(shown, _LONGEST_NAME, placeholder="…") if shown.strip() else name
        return shown if wrap is None else textwrap.fill(shown, wrap, break_long_words=False)

    def number(self, value: float, digits: int = 0) -> str:
        """A number with the decimal mark and the thousands' separator of the language."""
        text = f"{value:,.{digits}f}"
        if self.language == "es":
            return text.translate(str.maketrans(",.", "\N{NO-BREAK SPACE},"))
        return text

    def plain(self, value: float) -> str:
        """A number with as many digits as it needs, for the ticks of an axis."""
        text = f"{value:g}"
        return text.replace(".", ",") if self.language == "es" else text

    def percent(self, share: float, digits: int = 0) -> str:
        """A share, 0 to 1, as a percentage."""
        gap = "\N{NO-BREAK SPACE}" if self.language == "es" else ""
        return f"{self.number(100 * share, digits)}{gap}%"


def new_figure(
    look: Look, title: str, subtitle: str = "", *, height: float, width: float = WIDTH
) -> Figure:
    """Returns a figure with a title and, under it, a line that says what to see.

    Args:
        look: theme and language.
        title: already in the language.
        subtitle: one line, or several.
        height: inches.
        width: inches.
    """
    colours = look.colours
    lines = textwrap.wrap(subtitle, 94)
    header = 0.50 + 0.19 * len(lines)  # inches: the title's line and the subtitle's
    figure = Figure(figsize=(width, height), facecolor=colours.background)
    figure.set_layout_engine(
        ConstrainedLayoutEngine(
            rect=(0.01, 0.01, 0.98, 1 - header / height - 0.01), w_pad=0.06, h_pad=0.06
        )
    )
    left = 0.12 / width
    figure.text(
        left,
        1 - 0.12 / height,
        title,
        size=TITLE_SIZE,
        weight="bold",
        color=colours.ink,
        va="top",
        parse_math=False,
    )
    figure.text(
        left,
        1 - 0.42 / height,
        "\n".join(lines),
        size=TEXT_SIZE,
        color=colours.muted,
        va="top",
        linespacing=1.3,
        parse_math=False,
    )
    return figure


def style(axes: Axes, look: Look, *, grid: str | None = "both", title: str = "") -> Axes:
    """Gives axes the look: no frame, a thin grid behind the data, quiet labels.

    Args:
        axes: to be styled.
        look: theme and language.
        grid: "x", "y", "both" or None.
        title: of a panel, at its left.
    """
    colours = look.colours
    axes.set_facecolor(colours.background)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0, labelsize=TEXT_SIZE, labelcolor=colours.muted, pad=5)
    axes.xaxis.label.set(color=colours.muted, size=TEXT_SIZE)
    axes.yaxis.label.set(color=colours.muted, size=TEXT_SIZE)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(True, axis=grid, color=colours.grid, linewidth=0.8)  # type: ignore[arg-type]
    if title:
        axes.set_title(
            title, loc="left", size=TEXT_SIZE, color=colours.ink, pad=8, parse_math=False
        )
    return axes


def percent_axis(axes: Axes, look: Look, which: str, ticks: int = 5) -> None:
    """Turns an axis from 0 to 1 into one of percentages."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    positions = [index / ticks for index in range(ticks + 1)]
    axis.set_ticks(positions, [look.percent(position) for position in positions])


def mark_value(axes: Axes, value: float, text: str, colour: str, look: Look, *, side: str) -> None:
    """Draws an upright line with its name at the top of its "left" or "right" side."""
    axes.axvline(value, color=colour, linewidth=1.8)
    on_left = side == "left"
    axes.annotate(
        text,
        (value, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-6 if on_left else 6, -3),
        textcoords="offset points",
        ha="right" if on_left else "left",
        va="top",
        size=TEXT_SIZE,
        color=colour,
        parse_math=False,
        bbox={"facecolor": look.colours.background, "edgecolor": "none", "pad": 1},
    )


def readable_on(colour: object, look: Look) -> str:
    """The text colour that stands out on a coloured cell."""
    red, green, blue = to_rgb(colour)  # type: ignore[arg-type]
    return "#10151c" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.55 else "#ffffff"
