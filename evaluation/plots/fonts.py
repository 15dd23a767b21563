"""Figures whose texts appear as they are written: no formulas, and a font for every script."""

from __future__ import annotations

from functools import cache, lru_cache

from matplotlib import font_manager
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.text import Text

# Comes with matplotlib, has every character and draws a box that names its script. Without it in
# the list, matplotlib uses it all the same and warns of each character.
LAST_RESORT = "Last Resort High-Efficiency"


class PlainTextFigure(Figure):
    """A figure of names that people chose: `$x$` is no formula, and 猫 gets a font that has it.

    Both are set when the figure is drawn, and so hold for every text, whoever made it.
    """

    def draw(self, renderer: RendererBase) -> None:
        """Draws the figure; see `matplotlib.figure.Figure.draw`."""
        for text in self.findobj(Text):
            text.set_parse_math(False)
            usual, *others = families(text.get_text())
            if others:
                text.set_fontfamily([usual, *others])
                text.set_fontweight("normal")  # many fonts have no other: matplotlib would log it
        super().draw(renderer)


@lru_cache(4096)
def families(text: str) -> tuple[str, ...]:
    """Returns the font families to draw a text with, in the order in which they are tried."""
    usual = _characters(font_manager.findfont(font_manager.FontProperties(family=["sans-serif"])))
    missing = [character for character in text if ord(character) not in usual | {ord("\n")}]
    others = [_family_with(character) for character in missing]
    return tuple(dict.fromkeys(["sans-serif", *others]))


def _family_with(character: str) -> str:
    """The first installed family with a character: upright, regular and sans serif if possible."""
    installed = sorted(
        font_manager.fontManager.ttflist,
        key=lambda font: (
            font.weight not in (400, "normal"),
            font.style != "normal",
            "Sans" not in font.name,
        ),
    )
    for font in installed:
        if font.name != LAST_RESORT and ord(character) in _characters(font.fname):
            return font.name
    return LAST_RESORT


@cache
def _characters(path: str) -> frozenset[int]:
    try:
        return frozenset(font_manager.get_font(path).get_charmap())
    except (OSError, RuntimeError):  # a font of bitmaps (emoji in colours): matplotlib draws none
        return frozenset()
