"""Every text of the page in English and Spanish, and the classes' names as people read them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from classifier.data.images import MAX_ASPECT, MAX_MEGABYTES, MAX_MEGAPIXELS
from evaluation.locales import LOCALES, Locale

if TYPE_CHECKING:
    import gradio as gr
    from gradio.i18n import I18nData

LANGUAGES = tuple(LOCALES)
LIMITS = {
    "{max_megabytes}": f"{MAX_MEGABYTES}",
    "{max_megapixels}": f"{MAX_MEGAPIXELS}",
    "{max_aspect}": f"{MAX_ASPECT}",
}
_FOLDER = Path(__file__).parent


def language_of(wanted: object) -> str:
    """Returns the language of the page that fits a browser's (`es-MX`), English if none does."""
    code = str(wanted or "").lower().partition("-")[0]
    return code if code in LANGUAGES else LANGUAGES[0]


def word(key: str, language: str, **values: object) -> str:
    """Returns a text of `words.yaml` with the values filled in."""
    text = words()[key][language]
    return text.format(**values) if values else text


def class_name(name: str, language: str) -> str:
    """Returns the name of a class or superclass in a language; unknown ones without underscores."""
    return locale(language).name(name)


def percent(share: float | None, language: str, digits: int = 1) -> str:
    """Returns a share, 0–1, as a percentage in the notation of the language."""
    return locale(language).percent(share, digits)


def number(value: float | None, language: str, digits: int = 0) -> str:
    """Returns a number in the notation of the language."""
    return locale(language).number(value, digits)


@cache
def locale(language: str) -> Locale:
    """Returns the notation of a language, with the classes' names in it."""
    return LOCALES[language].with_class_names(class_names(language))


@cache
def words() -> dict[str, dict[str, str]]:
    """The table of all texts: key → language → text, with the limits of pictures filled in."""
    return {
        key: {language: _with_limits(text) for language, text in texts.items()}
        for key, texts in _read("words.yaml").items()
    }


@cache
def class_names(language: str) -> dict[str, str]:
    """The names of the classes and superclasses in a language, by their name in the data set."""
    table = _read("class_names.yaml")
    return {name: texts[LANGUAGES.index(language)] for name, texts in table.items()}


def static_html(key: str, render: Callable[[str], str]) -> I18nData:
    """Gives Gradio a piece of HTML in every language, as one more text that its page translates.

    Args:
        key: a name of its own for the piece.
        render: returns the piece in a language.
    """
    texts = static_texts()
    for language in LANGUAGES:
        texts.translations[language][f"html_{key}"] = render(language)
    return texts(f"html_{key}")


@cache
def static_texts() -> gr.I18n:
    """The same table for Gradio, whose page translates the texts of components by itself."""
    import gradio as gr

    return gr.I18n(
        **{
            language: {key: texts[language] for key, texts in words().items()}
            for language in LANGUAGES
        }
    )


def _with_limits(text: str) -> str:
    for name, limit in LIMITS.items():
        text = text.replace(name, limit)
    return text


def _read(name: str) -> dict[str, Any]:
    # The loader in C, where PyYAML has it, is ten times as fast.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load((_FOLDER / name).read_text(encoding="utf-8"), loader)
