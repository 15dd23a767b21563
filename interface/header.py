"""The head of the page: what this is, which model is served, and the two switches."""

from __future__ import annotations

from functools import cache
from html import escape

import gradio as gr
import numpy as np

from classifier.data.images import open_image, to_model_input
from interface.pictures import data_uri
from interface.serving import Models, Served
from interface.translations import LANGUAGE_NAMES, percent, word

PHOTOGRAPH = "lion.jpg"  # comes with Gradio: the title's question, asked of a picture
_COLUMNS = 60  # of the banner, whose right end is the picture
_DISSOLVING = 14  # columns at the left of the picture in which pixels begin to be missing


def render(models: Models, language: str, name: str | None = None) -> str:
    """Returns the head of the page as HTML.

    Args:
        models: the served models.
        language: the visitor's.
        name: of the model whose facts are shown; the default if not given.
    """
    served = models.get(name)
    facts = "".join(
        f"<div><dt>{escape(word(key, language))}</dt><dd>{value}</dd></div>"
        for key, value in _facts(served, language)
    )
    return f"""
<header class="masthead">
  <img class="banner" src="{_banner()}" alt="">
  <nav class="switches" aria-label="{escape(word("language_switch", language))}">
    {_languages(language)}
    {_appearance(language)}
  </nav>
  <p class="eyebrow">CIFAR-100 · Keras · Hugging Face</p>
  <h1>{escape(word("title", language, size=served.image_size))}</h1>
  <p class="lead">{escape(word("subtitle", language))}</p>
  <dl class="facts">{facts}</dl>
</header>
{_notice(models, language)}"""


def _facts(served: Served, language: str) -> list[tuple[str, str]]:
    top1 = (served.evaluation or {}).get("top1")
    measured = word("not_evaluated", language) if top1 is None else percent(top1, language)
    facts = [
        ("serves", f"<strong>{escape(served.name)}</strong>"),
        ("top1", f"<strong>{escape(measured)}</strong>"),
        ("source", escape(word(f"source_{served.source}", language))),
    ]
    if served.revision:
        facts.append(("revision", f"<code>{escape(served.revision[:7])}</code>"))
    return facts


def _notice(models: Models, language: str) -> str:
    if not models.notice:
        return ""
    return (
        f'<aside class="notice" role="status"><strong>{escape(word("notice_title", language))}'
        f"</strong> {escape(models.notice)}</aside>"
    )


def _languages(language: str) -> str:
    return "".join(
        f'<a href="?lang={code}" data-language="{code}" lang="{code}"'
        f"{' aria-current=true' if code == language else ''}>{name}</a>"
        for code, name in LANGUAGE_NAMES.items()
    )


def _appearance(language: str) -> str:
    label = escape(word("appearance_switch", language), quote=True)
    moon = '<path d="M12 3a9 9 0 1 0 0 18V3z"/><path d="M12 3a9 9 0 0 1 0 18" opacity=".25"/>'
    return (
        f'<button type="button" data-appearance aria-label="{label}" title="{label}">'
        f'<svg viewBox="0 0 24 24" aria-hidden="true">{moon}</svg></button>'
    )


@cache
def _banner() -> str:
    """Draws a photograph as the models see it, condensing out of single pixels."""
    pixels = to_model_input(open_image(gr.get_image(PHOTOGRAPH)))
    side = len(pixels)
    rows, columns = np.mgrid[:side, :_COLUMNS]
    # Any fixed scatter will do; this one is the fractional part of a golden-ratio lattice.
    chance = (columns * 0.6180339887 + rows * 0.7548776662) % 1
    filled = np.clip(columns / (_COLUMNS - side + _DISSOLVING), 0, 1) ** 2
    banner = np.zeros((side, _COLUMNS, 4), np.uint8)
    banner[..., :3] = pixels[:, (columns[0] - _COLUMNS) % side]
    banner[..., 3] = np.where(chance < filled, 255 * filled, 0)
    return data_uri(banner)
