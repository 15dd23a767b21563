"""The header of the page: title, served model, and the switches for language and theme."""

from __future__ import annotations

from functools import cache

import numpy as np

from interface.markup import fill
from interface.pictures import data_uri, photograph
from interface.serving import Models
from interface.translations import LANGUAGES, locale

_COLUMNS = 60  # of the banner; the picture is at its right end
_DISSOLVING = 14  # columns of the picture that are partly transparent


def render(models: Models, language: str, name: str | None = None) -> str:
    """Returns the header of the page, with the named model, by default the first, as HTML."""
    served = models.get(name)
    return fill(
        "header",
        language,
        banner=_banner(),
        languages={code: locale(code).language_name for code in LANGUAGES},
        served=served,
        top1=served.top1,
        notice=models.notice,
    )


@cache
def _banner() -> str:
    """Draws the photograph; its left side dissolves into single pixels."""
    pixels = photograph()
    side = len(pixels)
    rows, columns = np.mgrid[:side, :_COLUMNS]
    # Fixed, evenly distributed numbers: the fractional parts of a golden-ratio lattice.
    chance = (columns * 0.6180339887 + rows * 0.7548776662) % 1
    filled = np.clip(columns / (_COLUMNS - side + _DISSOLVING), 0, 1) ** 2
    banner = np.zeros((side, _COLUMNS, 4), np.uint8)
    banner[..., :3] = pixels[:, (columns[0] - _COLUMNS) % side]
    banner[..., 3] = np.where(chance < filled, 255 * filled, 0)
    return data_uri(banner)
