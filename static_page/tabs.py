"""Renders the tabs of the static page, for each language and model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from jinja2 import FileSystemLoader
from markupsafe import Markup

from classifier import provenance
from evaluation.curves import Curve, Records, default_classes, normalise_rows
from evaluation.plots.rankings import AXES
from interface import about, classify, compare, evaluation, header, markup
from interface.figures import ABLATION, MAX_CLASSES, measured
from interface.mistakes import ALL
from interface.serving import Models, Served
from interface.translations import LANGUAGES, locale

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
            if served.predictions is not None:
                pages[f"{place}/curves-{language}.html"] = render_curves(served, language)
    # Their address changes with their content: a page never shows those of an earlier one.
    version = hashlib.sha256("".join(pages.values()).encode()).hexdigest()[:12]
    pages = {path.replace("tabs", f"tabs/{version}", 1): page for path, page in pages.items()}
    pages["index.html"] = fill(
        "index",
        LANGUAGES[0],
        version=version,
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
    names = [locale(language).name(name) for name in served.labels.classes]
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
        kinds=evaluation.KINDS,
        drawn=default_classes(served.evaluation),
        most=MAX_CLASSES,
        rest=Markup(evaluation.render_rest(served, language)),
        classes=Markup(evaluation.render_classes(served, language)),
    )


def render_classes(served: Served, language: str) -> str:
    """Returns the confusions of each class, of which the page shows one class's."""
    counts = np.asarray((served.evaluation or {})["confusion_matrix"])
    shares = normalise_rows(counts)
    names = [locale(language).name(name) for name in served.labels.classes]
    text = locale(language).text
    classes = []
    for index, name in enumerate(names):
        partners = evaluation.confused_with(counts, index)
        classes.append(
            {
                "title": text("class_confusions", name=name),
                "note": text(
                    "class_confusions_note",
                    right=locale(language).number(counts[index, index]),
                    support=locale(language).number(counts[index].sum()),
                ),
                "lists": {
                    text("taken_for"): _confused(served, counts[index], index, language),
                    text("taken_from"): _confused(served, counts[:, index], index, language),
                },
                "partners": [names[partner] for partner in partners],
                "shares": shares[np.ix_(partners, partners)],
            }
        )
    title, note = text("confusion_chosen"), text("confusion_classes_note")
    return fill("one_class", language, classes=classes, matrix_title=title, matrix_note=note)


def render_curves(served: Served, language: str) -> str:
    """Returns the curves of all classes, of which the page shows those of the chosen ones."""
    text = locale(language).text

    def described(curve: Curve, name: str) -> tuple[str, str, str]:
        return name, _path(curve), locale(language).number(curve.area, 3)

    drawings = {}
    for kind in evaluation.KINDS:
        found = getattr(_records(served), kind)
        classes = [(index, curve) for index, curve in enumerate(found.classes) if curve is not None]
        drawings[kind] = {
            "axes": [text(axis) for axis in AXES[kind]],
            "averages": {
                average: described(getattr(found, average), text(average))
                for average in ("micro", "macro")
            },
            "classes": {
                index: described(curve, locale(language).name(served.labels.classes[index]))
                for index, curve in sorted(classes, key=lambda pair: -pair[1].area)
            },
        }
    shown = range(0, CURVE_SIDE + 1, 20)
    ticks = {tick: locale(language).percent(tick / CURVE_SIDE, 0) for tick in shown}
    side, name = CURVE_SIDE, served.name
    return fill("curves", language, drawings=drawings, ticks=ticks, side=side, name=name, text=text)


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
        (locale(language).name(served.labels.classes[index]), counts[index] / counts.sum(), False)
        for index in others[:LISTED]
        if counts[index] > 0
    ]


@lru_cache(1)  # the curves are the same in all languages
def _records(served: Served) -> Records:
    return Records(served.labels, served.evaluation or {}, served.predictions)  # type: ignore[arg-type]


def _path(curve: Curve) -> str:
    """Returns a curve of the unit square as an SVG path, in whole units of the drawing."""
    points = np.rint(CURVE_SIDE * np.stack([curve.x, 1 - curve.y], axis=1)).astype(int)
    steps = np.diff(points, axis=0)
    moved = " ".join(f"{right} {down}" for right, down in steps[steps.any(axis=1)])
    return f"M{points[0, 0]} {points[0, 1]}l{moved}"
