"""The *Compare* tab: accuracy, cost and robustness of the models, and the ablation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from classifier.provenance import training_seconds
from evaluation.locales import NO_VALUE
from interface.drawing import Drawing
from interface.events import TEXT_EVENT, restore_from_url, store_in_url
from interface.figures import ABLATION, COMPARISON, LOOKS, figure_element, measured
from interface.markup import fill, heading, message
from interface.serving import Models, Served
from interface.translations import locale, static_html, static_texts, word

SHIFT = 4  # pixels, in the text above the figure
# The rows of the table: the field of a model's values, its unit, factor and decimals.
ROWS: dict[str, tuple[str, str, float, int]] = {
    "top1": ("top1", "%", 1, 1),
    "interval": ("top1_interval", "%", 1, 1),
    "top5": ("top5", "%", 1, 1),
    "superclass_top1": ("superclass_top1", "%", 1, 1),
    "macro_f1": ("macro_f1", "%", 1, 1),
    "calibration": ("expected_calibration_error", "%", 1, 1),
    "train_top1": ("train_top1", "%", 1, 1),
    "gap": ("train_test_gap", "", 100, 1),
    "parameters": ("parameters", "M", 1e-6, 2),
    "flops": ("flops_per_image", "MFLOP", 1e-6, 1),
    "size": ("bytes", "MB", 2**-20, 1),
    "latency": ("latency_ms", "ms", 1, 1),
    "training_time": ("training_seconds", "min", 1 / 60, 0),
}


def build(models: Models, language: gr.Textbox) -> list[dict[str, Any]]:
    """Lays out the tab and its events; returns the events that fill it when the page loads."""
    text = static_texts()
    gr.HTML(static_html("compare", lambda code: render(models, code)), elem_id="compare")
    comparison = suitable(models)
    fillings: list[dict[str, Any]] = []
    if comparison is not None and len(comparison["class_accuracy"]) > 1:
        names = list(comparison["class_accuracy"])
        default = default_pair(comparison)
        with gr.Group(elem_classes="panel"):
            heading("compare_classes", "compare_classes_note")
            with gr.Row(elem_classes="controls"):
                first = gr.Dropdown(
                    names, value=default[0], label=text("compare_first"), elem_id="compare-first"
                )
                second = gr.Dropdown(
                    names, value=default[1], label=text("compare_second"), elem_id="compare-second"
                )
            differences = gr.HTML(elem_id="differences")

        async def redraw(one: str, other: str, language: str) -> tuple[str, str, str]:
            pair = zip((one, other), default, strict=True)
            one, other = (name if name in names else usual for name, usual in pair)
            return one, other, render_differences(one, other, language)

        event: dict[str, Any] = {
            "fn": redraw,
            "inputs": [first, second, language],
            "outputs": [first, second, differences],
            **TEXT_EVENT,
        }
        stored = {**event, "js": store_in_url(first="", second="")}
        gr.on([first.input, second.input], **stored, trigger_mode="always_last")
        fillings.append({**event, "js": restore_from_url(first="", second="")})
    if comparison is not None and measured(ABLATION) is not None:
        gr.HTML(static_html("ablation", render_ablation), elem_id="ablation")
    return fillings


def suitable(models: Models) -> dict[str, Any] | None:
    """Returns the comparison if its classes are those of the served models."""
    comparison = measured(COMPARISON)
    if comparison is None:
        return None
    known = set(next(iter(comparison["class_accuracy"].values()), {}))
    return comparison if known == set(models.get().labels.classes) else None


def render(models: Models, language: str) -> str:
    """Returns the table and the robustness curves of all models as HTML."""
    comparison = suitable(models)
    columns = list(comparison["models"]) if comparison else []
    compared = {column["name"]: column for column in columns}
    for served in models:
        known, own = compared.get(served.name), served.evaluation or {}
        # Of two machines, the figures of one model may differ in a few images.
        if not known or any(abs(known[key] - own.get(key, -1)) > 0.001 for key in ("top1", "top5")):
            column = _column(served)
            if known:
                column["name"] += f" ({word(f'source_{served.source}', language)})"
            columns.append(column)
    lesson = figure = source = ""
    if comparison:
        lesson = _lesson(comparison, language)
        source = word(
            "compare_source",
            language,
            date=comparison["date"],
            command=comparison["command"],
            images=locale(language).number(comparison["dataset"]["images"]),
            processor=comparison["machine"]["processor"],
        )
        alternative = f"{word('alt_robustness', language)} {lesson}"
        figure = comparison_figure("robustness", language, alternative=alternative)
    rows = {key: [_cell(key, column, language) for column in columns] for key in ROWS}
    names = [column["name"] for column in columns]
    return fill(
        "comparison", language, lesson=lesson, figure=figure, source=source, names=names, rows=rows
    )


def render_ablation(language: str) -> str:
    """Returns the figure of the ablation as HTML."""
    measurement = measured(ABLATION) or {}
    machines = ", ".join(measurement["machines"])
    source = word("ablation_source", language, **{**measurement, "machines": machines})
    figure = comparison_figure("ablation", language, alternative=word("alt_ablation", language))
    return fill("ablation", language, figure=figure, source=source)


def render_differences(first: str, second: str, language: str) -> str:
    """Returns the figure of the differences between two compared models per class, as HTML."""
    if first == second:
        return message(word("compare_same", language), language)
    alt = word("alt_class_differences", language, first=first, second=second)
    return comparison_figure(
        "class_differences", language, alternative=alt, first=first, second=second
    )


def comparison_figure(figure: str, language: str, *, alternative: str, **choice: str) -> str:
    """Returns a figure as HTML, in the light and the dark theme; the page shows one of them."""
    version = (measured(COMPARISON) or {}).get("date", "")
    query = {"language": language, "version": version, **choice}
    return figure_element(f"figures/{figure}.png", query, alternative, language, "slide")


def drawings(models: Models) -> Iterator[Drawing]:
    """Yields the figures that the tab shows at first."""
    comparison = suitable(models)
    if comparison is None:
        return
    for form, language, theme in LOOKS:
        yield Drawing(COMPARISON, "robustness", theme, language, form)
        if measured(ABLATION) is not None:
            yield Drawing(ABLATION, "ablation", theme, language, form)
        if len(comparison["class_accuracy"]) > 1:
            names = default_pair(comparison)
            yield Drawing(COMPARISON, "class_differences", theme, language, form, names)


def default_pair(comparison: dict[str, Any]) -> tuple[str, str]:
    """Returns the models that are compared by class at first: the best and the second."""
    second, best = list(comparison["class_accuracy"])[-2:]
    return best, second


def _column(served: Served) -> dict[str, Any]:
    """Returns the values of a model that is not in the comparison, as far as they are known."""
    values = {**served.training, **(served.evaluation or {})}
    top1, trained = values.get("top1"), values.get("train_top1")
    folder = served.folder
    return {
        **values,
        "name": served.name,
        "bytes": sum((folder.path / file).stat().st_size for file in folder.files()),
        "train_test_gap": None if top1 is None or trained is None else trained - top1,
        "training_seconds": training_seconds(served.training),
        "training_machine": values.get("machine"),
    }


def _cell(row: str, column: dict[str, Any], language: str) -> str:
    """Returns a cell of the table: the value of a model in its unit, or a dash."""
    field, unit, factor, digits = ROWS[row]
    value = column.get(field)
    if isinstance(value, dict):
        value = value["median"]
    if value is None:
        return NO_VALUE
    if unit == "%":
        shares = value if isinstance(value, list) else [value]
        return " – ".join(locale(language).percent(share) for share in shares)
    text = f"{locale(language).number(value * factor, digits)} {unit}".rstrip()
    accelerator = (column.get("training_machine") or {}).get("accelerator")
    return f"{text}, {accelerator}" if row == "training_time" and accelerator else text


def _lesson(comparison: dict[str, Any], language: str) -> str:
    """Describes the effect of a shift on each model."""
    curve = comparison["robustness"]["shift"]
    place = curve["levels"].index(SHIFT)
    costs = [
        word(
            "compare_cost",
            language,
            name=name,
            before=locale(language).percent(top1[0]),
            after=locale(language).percent(top1[place]),
        )
        for name, top1 in curve["top1"].items()
    ]
    return f"{word('compare_note', language, pixels=SHIFT)} {'; '.join(costs)}."
