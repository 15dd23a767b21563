"""Light and dark colour themes of figures and app."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Theme:
    """Colours of a theme; text and series have a contrast of at least 4.5 to the background.

    Attributes:
        background: of the figure.
        ink: of titles and names.
        muted: of notes and axis labels.
        grid: of lines behind the data.
        series: of curves; neighbours differ in hue and lightness, for any colour vision.
        ramp: of a matrix, from 0 to 1.
    """

    background: str
    ink: str
    muted: str
    grid: str
    series: tuple[str, ...]
    ramp: tuple[str, ...]

    @property
    def main(self) -> str:
        """The colour of the one series that a figure is about."""
        return self.series[0]

    @property
    def contrary(self) -> str:
        """The colour of its opposite: worst against best, validation against training."""
        return self.series[1]


LIGHT = Theme(
    background="#ffffff",
    ink="#1c2430",
    muted="#5b6675",
    grid="#e3e7ed",
    series=("#1f5fa8", "#b4500f", "#0f766e", "#7440a8", "#826200", "#b0305e"),
    ramp=("#f6f8fb", "#cfe0f2", "#86b2de", "#3b7cc0", "#1c559a", "#0a2a55"),
)
DARK = Theme(
    background="#12161d",
    ink="#e8ecf2",
    muted="#9aa6b5",
    grid="#2a313c",
    series=("#74b0ee", "#f39a5b", "#4cc7b8", "#bd9bea", "#dcc05a", "#f187aa"),
    ramp=("#191f28", "#1b3556", "#23588f", "#4a90d6", "#9cc8f5", "#f1f8ff"),
)
THEMES: dict[str, Theme] = {"light": LIGHT, "dark": DARK}
