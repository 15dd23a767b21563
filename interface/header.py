"""The head of the page: what this is, which model is served, and the two switches."""

from __future__ import annotations

from html import escape

from interface.serving import Models, Served
from interface.translations import LANGUAGE_NAMES, percent, word

_SIDE = 26  # of the squares of the mosaic, in the units of its drawing
_COLUMNS, _ROWS = 22, 9
_INKS = ("#1c559a", "#3b7cc0", "#86b2de", "#f39a5b", "#cfe0f2", "#0f766e")


def render(models: Models, language: str) -> str:
    """Returns the head of the page as HTML."""
    served = models.get()
    facts = "".join(
        f"<div><dt>{escape(word(key, language))}</dt><dd>{value}</dd></div>"
        for key, value in _facts(served, language)
    )
    return f"""
<header class="masthead">
  {_mosaic()}
  <nav class="switches" aria-label="{escape(word("language_switch", language))}">
    {_languages(language)}
    {_appearance(language)}
  </nav>
  <p class="eyebrow">CIFAR-100 · Keras · Hugging Face</p>
  <h1>{escape(word("title", language))}</h1>
  <p class="lead">{escape(word("subtitle", language))}</p>
  <dl class="facts">{facts}</dl>
</header>
{_notice(models, language)}"""


def _facts(served: Served, language: str) -> list[tuple[str, str]]:
    top1 = (served.evaluation or {}).get("top1")
    measured = word("not_evaluated", language) if top1 is None else percent(top1, language)
    revision = served.revision[:7] if served.revision else word("no_revision", language)
    return [
        ("serves", f"<strong>{escape(served.name)}</strong>"),
        ("source", escape(word(f"source_{served.source}", language))),
        ("revision", f"<code>{escape(revision)}</code>"),
        ("top1", f"<strong>{escape(measured)}</strong>"),
    ]


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


def _mosaic() -> str:
    """Draws squares that condense from nothing: a picture on its way to few pixels."""
    squares = []
    for row in range(_ROWS):
        for column in range(_COLUMNS):
            # Any fixed scatter will do; this one is the fractional part of a golden-ratio lattice.
            chance = (column * 0.6180339887 + row * 0.7548776662) % 1
            share = ((column + 1) / _COLUMNS) ** 2
            if chance < share:
                ink = _INKS[int(chance * 97 + row * 3 + column) % len(_INKS)]
                squares.append(
                    f'<rect x="{column * _SIDE}" y="{row * _SIDE}" width="{_SIDE}" '
                    f'height="{_SIDE}" fill="{ink}" opacity="{0.15 + 0.85 * share * chance:.2f}"/>'
                )
    size = f"0 0 {_COLUMNS * _SIDE} {_ROWS * _SIDE}"
    return (
        f'<svg class="mosaic" viewBox="{size}" preserveAspectRatio="xMaxYMid slice" '
        f'aria-hidden="true" shape-rendering="crispEdges">{"".join(squares)}</svg>'
    )
