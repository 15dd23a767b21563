"""Figures with literal texts: no math mode, and fallback fonts for all scripts."""

from __future__ import annotations

from functools import cache, lru_cache

from matplotlib import font_manager
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.text import Text

# Part of matplotlib; draws any character as a box that names its script. If it is not in the list
# of families, matplotlib uses it too, but logs a warning for each character.
LAST_RESORT = "Last Resort High-Efficiency"


class PlainTextFigure(Figure):
    """A figure for any class name: `$x$` is not a formula, and 猫 gets a font that has it."""

    def draw(self, renderer: RendererBase) -> None:
        """Draws the figure; see `matplotlib.figure.Figure.draw`."""
        for text in self.findobj(Text):
            text.set_parse_math(False)
            default, *others = families(text.get_text())
            if others:
                text.set_fontfamily([default, *others])
                # Many fonts have no other weight: matplotlib would log a warning.
                text.set_fontweight("normal")
        super().draw(renderer)


@lru_cache(4096)
def families(text: str) -> tuple[str, ...]:
    """Returns the font families for a text, in order of preference."""
    default = _characters(font_manager.findfont(font_manager.FontProperties(family=["sans-serif"])))
    missing = [character for character in text if ord(character) not in default | {ord("\n")}]
    others = [_family_with(character) for character in missing]
    return tuple(dict.fromkeys(["sans-serif", *others]))


def _family_with(character: str) -> str:
    """Returns an installed family with a character, preferably regular and sans serif."""
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
    except (OSError, RuntimeError):  # a bitmap font (colour emoji), which matplotlib cannot draw
        return frozenset()
