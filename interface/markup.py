"""Renders the HTML templates in `templates/`, which escape all values."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import gradio as gr
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from interface.translations import locale, static_html, word

_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def fill(template: str, language: str, **values: object) -> Markup:
    """Renders a template.

    Args:
        template: the name of a file in `templates/`, without its suffix.
        language: of its texts and numbers, for the functions `word`, `class_name`, `number` and
            `percent` in the template.
        values: the variables; all but `Markup` is escaped.
    """
    notation = locale(language)
    return Markup(
        _environment.get_template(f"{template}.html").render(
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


def heading(title: str, note: str = "") -> gr.HTML:
    """Lays out a heading, and a note below it; both are keys of `words.yaml`."""
    html = static_html(title, lambda code: fill("heading", code, title=title, note=note))
    return gr.HTML(html, elem_classes="heading")
