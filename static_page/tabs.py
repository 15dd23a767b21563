"""Renders the tabs of the static page, for each language and model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from jinja2 import FileSystemLoader
from markupsafe import Markup

from classifier import provenance
from evaluation import curves
from evaluation.curves import Curve
from interface import about, classify, compare, evaluation, header, markup
from interface.figures import ABLATION, measured
from interface.mistakes import ALL
from interface.serving import Models, Served
from interface.translations import LANGUAGES, class_name, locale, number

ROOM = Path(__file__).parent
TEMPLATES = ROOM / "templates"
LISTED = 6  # classes that one is most often confused with, in each direction
CURVE_SIDE = 100  # units of the drawing of a curve

# What both pages show has one template, in the app's folder.
fill = partial(
    markup.fill,
    environment=markup.environment.overlay(
        loader=FileSystemLoader([TEMPLATES, Path(markup.__file__).parent / "templates"])
    ),
)


def render_all(models: Models, examples: Sequence[dict[str, str]], data: str) -> dict[str, str]:
    """Returns the page and its tabs, which it loads when they are opened, as HTML by path.

    Args:
        models: the default first.
        examples: name, address and thumbnail of the example photographs.
        data: JSON for the scripts.
    """
    pages = {f"tabs/compare-{code}.html": render_compare(models, code) for code in LANGUAGES}
    for served in models:
        place = f"tabs/{served.name}"
        for language in LANGUAGES:
            pages[f"{place}/evaluation-{language}.html"] = render_evaluation(served, language)
            pages[f"{place}/about-{language}.html"] = render_about(models, served, language)
            if served.evaluation is not None:
                pages[f"{place}/classes-{language}.html"] = render_classes(served, language)
    pages["index.html"] = fill(
        "index",
        LANGUAGES[0],
        data=Markup(data),
        head=Markup(header.render(models, LANGUAGES[0])),
        models=list(models),
        examples=examples,
        parts=[Markup(fill("classify_parts", code, count=classify.SHOWN)) for code in LANGUAGES],
        without_scripts={code: render_without_scripts(models, code) for code in LANGUAGES},
    )
    return pages


def heads(models: Models) -> dict[str, dict[str, str]]:
    """Returns the header of the page as HTML: model → language → header."""
    return {
        name: {code: header.render(models, code, name) for code in LANGUAGES}
        for name in models.names
    }


def render_evaluation(served: Served, language: str) -> str:
    """Returns the *Evaluation* tab of a model."""
    names = [class_name(name, language) for name in served.labels.classes]
    return fill(
        "evaluation",
        language,
        headline=Markup(evaluation.render_headline(served, language)),
        served=served,
        every=ALL,
        choices=sorted(enumerate(names), key=lambda pair: pair[1]),
        matrices={
            level: Markup(evaluation.render_matrix(served, level, None, language))
            for level in (
                evaluation.LEVELS if served.labels.superclasses else evaluation.LEVELS[:1]
            )
        },
        curves={
            kind: Markup(evaluation.render_curves(served, kind, [], language))
            for kind in evaluation.KINDS
        },
        rest=Markup(evaluation.render_rest(served, language)),
        classes=Markup(evaluation.render_classes(served, language)),
    )


def render_classes(served: Served, language: str) -> str:
    """Returns for each class its confusions and curves, of which the page shows one class's."""
    counts = np.asarray((served.evaluation or {})["confusion_matrix"])
    text = locale(language).text
    classes = [
        {
            "title": text("class_confusions", name=class_name(name, language)),
            "note": text(
                "class_confusions_note",
                right=number(counts[index, index], language),
                support=number(counts[index].sum(), language),
            ),
            "lists": {
                text("taken_for"): _confused(served, counts[index], index, language),
                text("taken_from"): _confused(served, counts[:, index], index, language),
            },
            "curves": {
                text(kind): (_path(of_class), number(of_class.area, language, 3))
                for kind, each in _class_curves(served).items()
                if (of_class := each[index]) is not None
            },
        }
        for index, name in enumerate(served.labels.classes)
    ]
    return fill("one_class", language, classes=classes, side=CURVE_SIDE)


def render_compare(models: Models, language: str) -> str:
    """Returns the *Compare* tab."""
    comparison = compare.suitable(models)
    names = list(comparison["class_accuracy"]) if comparison else []
    pairs = [(one, other) for one in names for other in names]
    return fill(
        "compare",
        language,
        comparison=Markup(compare.render(models, language)),
        names=names,
        differences={
            pair: Markup(compare.render_differences(*pair, language))
            for pair in (pairs if len(names) > 1 else [])
        },
        ablation=Markup(
            compare.render_ablation(language) if comparison and measured(ABLATION) else ""
        ),
    )


def render_about(models: Models, served: Served, language: str) -> str:
    """Returns the *About* tab: where the models are from, and the card of one."""
    commands = {
        model.name: provenance.without_local_paths(model.training).get("command")
        for model in models
    }
    card = about.render(served, language)
    return fill("about", language, models=list(models), commands=commands, card=card)


def render_without_scripts(models: Models, language: str) -> Markup:
    """Returns what browsers without JavaScript show: the figures of the default model."""
    served = models.get()
    parts = [
        evaluation.render_headline(served, language),
        evaluation.render_matrix(served, evaluation.LEVELS[0], None, language),
        *(evaluation.render_curves(served, kind, [], language) for kind in evaluation.KINDS),
        evaluation.render_rest(served, language),
        compare.render(models, language),
    ]
    return Markup("\n".join(parts))


def _confused(
    served: Served, counts: np.ndarray, chosen: int, language: str
) -> list[tuple[str, float, bool]]:
    """Returns the classes that one is most often confused with, as rows of `bars.html`."""
    others = [index for index in np.argsort(-counts, kind="stable") if index != chosen]
    return [
        (class_name(served.labels.classes[index], language), counts[index] / counts.sum(), False)
        for index in others[:LISTED]
        if counts[index] > 0
    ]


@lru_cache(1)
def _class_curves(served: Served) -> dict[str, Sequence[Curve | None]]:
    if served.predictions is None:
        return {}
    return {
        "precision_recall": curves.precision_recall_curves(*served.predictions).classes,
        "roc": curves.roc_curves(*served.predictions).classes,
    }


def _path(curve: Curve) -> str:
    """Returns a curve of the unit square as an SVG path, in whole units of the drawing."""
    x, y = (np.rint(CURVE_SIDE * values).astype(int) for values in (curve.x, 1 - curve.y))
    points = dict.fromkeys(zip(x.tolist(), y.tolist(), strict=True))
    return "M" + "L".join(f"{right} {down}" for right, down in points)
