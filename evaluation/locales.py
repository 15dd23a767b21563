"""Locales: how a language writes the texts, numbers and class names of figures, page and terminal.

A further language takes an entry in `LOCALES` and a translation of each text in `texts.yaml`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

MISSING = "–"


@dataclass(frozen=True)
class Locale:
    """The notation of a language; numbers that are None become a dash.

    Attributes:
        language: ISO 639-1 code.
        texts: the sentences of the figures by key, with fields in braces.
        class_names: translations of class and superclass names.
        decimal_mark: between units and tenths.
        thousands_separator: between groups of three digits.
        percent_sign: what follows a percentage, with its space if the language has one.
    """

    language: str
    texts: Mapping[str, str] = field(hash=False, repr=False)
    class_names: Mapping[str, str] = field(default_factory=dict, hash=False, repr=False)
    decimal_mark: str = "."
    thousands_separator: str = ","
    percent_sign: str = "%"

    def with_class_names(self, class_names: Mapping[str, str]) -> Locale:
        """Returns the same locale with translations of class and superclass names."""
        return replace(self, class_names=class_names)

    def text(self, key: str, **values: object) -> str:
        """Returns a sentence with its fields filled in."""
        return self.texts[key].format(**values)

    def name(self, name: str) -> str:
        """Returns a class name as people read it: translated, else with spaces for underscores."""
        return self.class_names.get(name) or name.replace("_", " ").strip() or name

    def number(self, value: float | None, digits: int = 0) -> str:
        """Returns a number with a fixed count of decimals, its thousands separated."""
        return MISSING if value is None else self._localized(f"{value:z,.{digits}f}")

    def plain(self, value: float) -> str:
        """Returns a number with as many digits as it needs, for the ticks of an axis."""
        return self._localized(f"{value:g}")

    def percent(self, share: float | None, digits: int = 1) -> str:
        """Returns a share, 0 to 1, as a percentage."""
        if share is None:
            return MISSING
        return self.number(100 * share, digits) + self.percent_sign

    def _localized(self, text: str) -> str:
        marks = self.thousands_separator, self.decimal_mark, "\N{MINUS SIGN}"
        return text.translate(dict(zip(map(ord, ",.-"), marks, strict=True)))


def _texts(language: str) -> dict[str, str]:
    path = Path(__file__).with_name("texts.yaml")
    # The loader in C, where PyYAML has it, is ten times as fast.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    table = yaml.load(path.read_text(encoding="utf-8"), loader)
    return {key: texts[language] for key, texts in table.items()}


LOCALES: dict[str, Locale] = {
    "en": Locale("en", _texts("en")),
    "es": Locale(
        "es",
        _texts("es"),
        decimal_mark=",",
        thousands_separator="\N{NO-BREAK SPACE}",
        percent_sign="\N{NO-BREAK SPACE}%",
    ),
}
ENGLISH = LOCALES["en"]
