"""The last tab: the model card, with its figures, its long tables folded away."""

from __future__ import annotations

import re
from typing import Any

import gradio as gr
from markupsafe import Markup

from interface.evaluation import default_classes
from interface.events import TEXT_EVENT, with_user_errors
from interface.figures import DRAWN, alternative, image
from interface.markup import fill
from interface.serving import Models, Served
from interface.translations import language_of, word

_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
_TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)
_FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
MAX_ROWS = 8  # a longer table is opened by a click, but for the first: it holds the results
_PLOT = re.compile(r"!\[[^\]]*\]\(plots/(\w+)\.png\)")


def build(models: Models, model: gr.Radio, language: gr.Textbox) -> list[Any]:
    """Lays the tab out and connects it; returns what fills it when the page has loaded."""
    card = gr.Markdown(elem_id="card", latex_delimiters=[])

    async def show(name: str, language: str) -> str:
        return render(models.get(name), language_of(language))

    event: dict[str, Any] = {
        "fn": with_user_errors(show),
        "inputs": [model, language],
        "outputs": card,
        **TEXT_EVENT,
    }
    model.change(**event)
    return [event]


def render(served: Served, language: str) -> str:
    """Returns the model card as Markdown, its metadata left out and its plots drawn by the app."""
    card = served.folder.card
    if card is None:
        return word("no_card", language)
    text = _PLOT.sub(lambda found: _plot(served, found[1], language), _FRONT_MATTER.sub("", card))
    text = folded(text, language)
    note = word("card_language", language)
    return f"*{note}*\n\n{text}" if note else text


def folded(card: str, language: str) -> str:
    """Puts each long table of a card into an element that a click opens."""
    fenced = [found.span() for found in _FENCED.finditer(card)]
    first = _TABLE.search(card)

    def fold(found: re.Match[str]) -> str:
        table, start = found[0], found.start()
        rows = table.count("\n") - 2  # below the head and the line under it
        in_code = any(begin <= start < end for begin, end in fenced)
        if rows <= MAX_ROWS or in_code or (first and start == first.start()):
            return table
        cells = [cell.strip() for cell in table.partition("\n")[0].strip("|").split("|")]
        before = card[:start].rstrip().rpartition("\n")[2]
        title = " · ".join(filter(None, cells)) or before.strip("# :")
        # Still Markdown, which the page cleans as it does the rest of the card.
        element = fill("fold", language, title=title, rows=rows, table=Markup(table))
        return f"{element}\n\n"

    return _TABLE.sub(fold, card)


def _plot(served: Served, figure: str, language: str) -> str:
    if figure not in DRAWN or served.evaluation is None:
        return ""
    classes = default_classes(served) if figure in ("precision_recall", "roc") else ()
    return image(served, figure, language, alternative(figure, served, language), tuple(classes))
