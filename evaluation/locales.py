"""Locales: texts, number formats and class names of each language.

A new language needs an entry in `LOCALES` and a translation of each text in `texts.yaml`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

NO_VALUE = "–"


@dataclass(frozen=True)
class Locale:
    """The texts and formats of a language; None is formatted as a dash.

    Attributes:
        language: ISO 639-1 code.
        language_name: what the language calls itself.
        texts: the texts of the figures by key, with fields in braces.
        class_names: translations of class and superclass names.
        decimal_mark: between units and tenths.
        thousands_separator: between groups of three digits.
        percent_sign: with a leading space if the language has one.
    """

    language: str
    language_name: str
    texts: Mapping[str, str] = field(hash=False, repr=False)
    class_names: Mapping[str, str] = field(default_factory=dict, hash=False, repr=False)
    decimal_mark: str = "."
    thousands_separator: str = ","
    percent_sign: str = "%"

    def text(self, key: str, **values: object) -> str:
        """Returns a text with its fields filled in."""
        return self.texts[key].format(**values)

    def name(self, name: str) -> str:
        """Returns the display name of a class: translated, else with spaces for underscores."""
        return self.class_names.get(name) or name.replace("_", " ").strip() or name

    def number(self, value: float | None, digits: int = 0) -> str:
        """Formats a number with a fixed number of decimals and thousands separators."""
        return NO_VALUE if value is None else self._localized(f"{value:z,.{digits}f}")

    def plain(self, value: float) -> str:
        """Formats a number with as few digits as possible, for axis ticks."""
        return self._localized(f"{value:g}")

    def percent(self, share: float | None, digits: int = 1) -> str:
        """Formats a fraction, 0 to 1, as a percentage."""
        if share is None:
            return NO_VALUE
        return self.number(100 * share, digits) + self.percent_sign

    def _localized(self, text: str) -> str:
        marks = self.thousands_separator, self.decimal_mark, "\N{MINUS SIGN}"
        return text.translate(dict(zip(map(ord, ",.-"), marks, strict=True)))


def read_table(path: Path) -> dict[str, Any]:
    """Reads a YAML file of texts."""
    # The C loader, if PyYAML has it, is ten times as fast.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text(encoding="utf-8"), loader)


def _texts(language: str) -> dict[str, str]:
    table = read_table(Path(__file__).with_name("texts.yaml"))
    return {key: texts[language] for key, texts in table.items() if language in texts}


LOCALES: dict[str, Locale] = {
    "en": Locale("en", "English", _texts("en")),
    "es": Locale(
        "es",
        "Español",
        _texts("es"),
        decimal_mark=",",
        thousands_separator="\N{NO-BREAK SPACE}",
        percent_sign="\N{NO-BREAK SPACE}%",
    ),
}
ENGLISH = LOCALES["en"]
