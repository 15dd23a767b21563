"""The texts of the page and the class names, in all languages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from classifier.data.image_formats import NAMES
from classifier.data.images import MAX_ASPECT, MAX_MEGABYTES, MAX_MEGAPIXELS
from evaluation.locales import LOCALES, Locale, read_table

if TYPE_CHECKING:
    import gradio as gr
    from gradio.i18n import I18nData

LANGUAGES = tuple(LOCALES)
LIMITS = {
    "{max_megabytes}": f"{MAX_MEGABYTES}",
    "{max_megapixels}": f"{MAX_MEGAPIXELS}",
    "{max_aspect}": f"{MAX_ASPECT}",
    "{image_formats}": ", ".join(NAMES),
}
_FOLDER = Path(__file__).parent


def language_of(wanted: object) -> str:
    """Returns the language for a browser's language tag (`es-MX`), by default English."""
    code = str(wanted or "").lower().partition("-")[0]
    return code if code in LANGUAGES else LANGUAGES[0]


def word(key: str, language: str, **values: object) -> str:
    """Returns a text of `words.yaml` with the values filled in."""
    text = words()[key][language]
    return text.format(**values) if values else text


@cache
def locale(language: str) -> Locale:
    """Returns the locale of a language, with class names."""
    return replace(LOCALES[language], class_names=class_names(language))


@cache
def words() -> dict[str, dict[str, str]]:
    """Returns all texts: key → language → text, with the limits of pictures filled in."""
    table = read_table(_FOLDER / "words.yaml")
    for texts in table.values():
        for name, limit in LIMITS.items():
            texts |= {code: text.replace(name, limit) for code, text in texts.items()}
    return table


@cache
def class_names(language: str) -> dict[str, str]:
    """Returns the display names of classes and superclasses by their name in the data set."""
    table = read_table(_FOLDER / "class_names.yaml")
    place = LANGUAGES.index(language)
    return {name: texts[place] for name, texts in table.items() if place < len(texts)}


def static_html(key: str, render: Callable[[str], str]) -> I18nData:
    """Returns HTML, rendered in each language, that Gradio's page translates like a text."""
    texts = static_texts()
    for language in LANGUAGES:
        texts.translations[language][f"html_{key}"] = render(language)
    return texts(f"html_{key}")


@cache
def static_texts() -> gr.I18n:
    """Returns all texts for Gradio, whose page translates the texts of components."""
    import gradio as gr

    return gr.I18n(**{language: texts_of(language) for language in LANGUAGES})


def texts_of(language: str) -> dict[str, str]:
    """Returns all texts in a language by their keys."""
    return {key: texts[language] for key, texts in words().items()}
