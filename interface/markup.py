"""HTML for the page out of the templates in `templates/`, which escape whatever they are given."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from interface.translations import locale, word

_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def fill(template: str, language: str, **values: object) -> Markup:
    """Returns a template filled in.

    Args:
        template: name of a file in `templates/`, without its ending.
        language: of its texts and numbers. A template writes them with `word`, `class_name`,
            `number` and `percent`.
        values: what it shows. All of it is escaped, but for what `fill` itself returned.
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
