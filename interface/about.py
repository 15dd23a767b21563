"""The *About* tab: the model card, with all sections but the results collapsed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import gradio as gr
from markupsafe import Markup

from evaluation.curves import default_classes
from interface.events import TEXT_EVENT
from interface.figures import CURVES, DRAWN, evaluation_figure
from interface.markup import fill
from interface.serving import Models, Served
from interface.translations import word

_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
_TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)
_FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_SECTION = re.compile(r"^## (.+)\n", re.MULTILINE)
_PLOT = re.compile(r"!\[[^\]]*\]\(plots/(\w+)\.png\)")


def build(models: Models, model: gr.Radio, language: gr.Textbox) -> list[Any]:
    """Lays out the tab and its events; returns the events that fill it when the page loads."""
    card = gr.Markdown(elem_id="card", latex_delimiters=[])

    async def show(name: str, language: str) -> str:
        return render(models.get(name), language)

    event = {"fn": show, "inputs": [model, language], "outputs": card, **TEXT_EVENT}
    model.change(**event)
    return [event]


def render(
    served: Served, language: str, plot: Callable[[Served, str, str], str] | None = None
) -> str:
    """Returns the model card as Markdown, without metadata and with plots drawn by the app.

    Args:
        served: the model.
        language: of the headings and notes around it.
        plot: returns what stands for a plot, of which it takes model, name and language; by
            default `figure`.
    """
    card = served.folder.card
    if card is None:
        return word("no_card", language)
    plot = plot or figure
    text = _PLOT.sub(lambda found: plot(served, found[1], language), _FRONT_MATTER.sub("", card))
    text = folded(text, language)
    note = word("card_language", language)
    return f"*{note}*\n\n{text}" if note else text


def folded(card: str, language: str) -> str:
    """Makes the sections of a card, but for its start and the first table, collapsible."""
    fenced = [found.span() for found in _FENCED.finditer(card)]
    heads = [
        found
        for found in _SECTION.finditer(card)
        if not any(begin <= found.start() < end for begin, end in fenced)
    ]
    first = _TABLE.search(card)
    parts = [card[: heads[0].start()] if heads else card]
    ends = [*(head.start() for head in heads), len(card)][1:]
    for head, end in zip(heads, ends, strict=True):
        start, title = head.end(), head[1].strip()
        if first and start <= first.start() < end:
            parts.append(card[head.start() : first.end()])
            start, title = first.end(), word("card_more", language, title=title)
        if body := card[start:end].strip():
            # It is Markdown, which the page sanitises.
            parts.append(fill("fold", language, title=title, text=Markup(body)))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def figure(served: Served, name: str, language: str) -> str:
    """Returns a plot of the model card, as the app draws it, as HTML."""
    if name not in DRAWN or served.evaluation is None:
        return ""
    classes = default_classes(served.evaluation) if name in CURVES else ()
    return evaluation_figure(served, name, language, classes)
