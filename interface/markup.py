"""Renders the HTML templates in `templates/`, which escape all values."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import gradio as gr
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from interface.translations import locale, static_html, word

environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def fill(
    template: str, language: str, environment: Environment = environment, **values: object
) -> Markup:
    """Renders a file of `templates/`, named without its suffix.

    Its variables, of which all but `Markup` is escaped, are the values and the functions `word`,
    `class_name`, `number` and `percent` in the language.
    """
    notation = locale(language)
    return Markup(
        environment.get_template(f"{template}.html").render(
            language=language,
            word=partial(word, language=language),
            class_name=notation.name,
            number=notation.number,
            percent=notation.percent,
            **values,
        )
    )


def line(key: str, language: str, **values: object) -> Markup:
    """Returns a text of `words.yaml` as a paragraph."""
    return fill("line", language, text=word(key, language, **values))


def message(
    text: str, language: str, title: str = "", kind: str = "", ghosts: Sequence[float] = ()
) -> Markup:
    """Returns what is shown instead of answers.

    Args:
        text: what is missing, or what to do.
        language: the visitor's.
        title: above the text.
        kind: a CSS class, "waiting" or "refused".
        ghosts: lengths of empty bars below the text, as fractions of the width.
    """
    return fill("message", language, text=text, title=title, kind=kind, ghosts=ghosts)


def heading(title: str, note: str = "") -> gr.HTML:
    """Lays out a heading, and a note below it; both are keys of `words.yaml`."""
    html = static_html(title, lambda code: fill("heading", code, title=title, note=note))
    return gr.HTML(html, elem_classes="heading")
