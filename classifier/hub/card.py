"""Renders the model card from the template `model_card.md` and the files of the model folder."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifier import command_line, provenance
from classifier.errors import InputError
from classifier.files import write_text
from classifier.hub.dataset_id import hub_dataset
from classifier.hub.sources import embedded_models, find
from classifier.model_folder.folder import CARD, EVALUATION, ONNX, TRAINING, ModelFolder
from classifier.model_folder.saved_model import MIN_KERAS_VERSION
from classifier.settings import ARCHITECTURES, AUGMENTATIONS, OPTIMIZERS, SCHEDULES, Settings

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

TEMPLATE = Path(__file__).resolve().parents[2] / "model_card.md"
TIED = "convolutions, then dense layers"  # the first stage of the preset mlp
# The table of results: key in evaluation.json, name, format; a push compares it with the card.
RESULTS = (
    ("top1", "Top-1 accuracy", "percent"),
    ("top5", "Top-5 accuracy", "percent"),
    ("superclass_top1", "Superclass accuracy", "percent"),
    ("macro_precision", "Macro precision", "number"),
    ("macro_recall", "Macro recall (balanced accuracy)", "number"),
    ("macro_f1", "Macro F1", "number"),
    ("macro_average_precision", "Macro average precision", "number"),
    ("macro_roc_auc", "Macro ROC AUC", "number"),
    ("expected_calibration_error", "Expected calibration error", "number"),
    ("loss", "Cross-entropy", "number"),
)
# Those of the metadata, with the names of their metrics on the Hub.
METADATA_RESULTS = {"top1": "accuracy", "top5": "top_5_accuracy", "macro_f1": "f1"}
# Parts of training.json that are not repeated in the card's last table.
RENDERED_KEYS = ("preset", "settings", "dataset", "parameters", "command", "machine", "versions")


def write(folder: ModelFolder, *, compare: Sequence[ModelFolder] = ()) -> Path:
    """Writes the card of a model folder and returns its path; raises the errors of `render`."""
    path = folder.path / CARD
    write_text(path, render(folder, compare=compare))
    return path


def render(folder: ModelFolder, *, compare: Sequence[ModelFolder] = ()) -> str:
    """Renders the card of a model folder, metadata included.

    Args:
        folder: with `labels.json`, `training.json` and `evaluation.json`.
        compare: other models for the comparison table; those without an evaluation are skipped.

    Raises:
        InputError: the folder lacks one of the files.
    """
    from huggingface_hub import ModelCard, ModelCardData

    training = provenance.without_local_paths(folder.training)
    evaluation, labels = folder.evaluation, folder.labels
    if not training or not evaluation:
        missing = TRAINING if not training else EVALUATION
        raise InputError(f"{folder.path} has no {missing}: the card needs it")
    settings = training.get("settings") or {}
    recorded = training.get("dataset") or {}
    on_hub = hub_dataset(*(recorded.get(key) for key in ("id", "revision", "fingerprint")))
    dataset = on_hub or recorded.get("id") or labels.dataset or "its data set"
    keys = ("dataset", "dataset_revision", "dataset_fingerprint")
    evaluated_on = hub_dataset(*map(evaluation.get, keys)) or evaluation.get("dataset") or dataset
    evaluation["dataset"] = evaluated_on
    name = str(settings.get("architecture", ""))
    kind = TIED if settings.get("tied") else ARCHITECTURES.get(name, "a neural network")
    flattens = "mlp" in name and not settings.get("tied")
    data = ModelCardData(
        model_name=_name(folder),
        language="en",
        license="mit",
        library_name="keras",
        pipeline_tag="image-classification",
        datasets=[on_hub] if on_hub else None,
        base_model=_base_model(training),
        tags=["image-classification", "keras", "mlp" if flattens else "cnn"],
        metrics=["accuracy", "f1"],
        eval_results=_metadata_results(evaluation),
        ignore_metadata_errors=False,
    )
    card = ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        **FORMATS,
        name=_name(folder),
        training={**training, "dataset": recorded and {**recorded, "id": dataset}},
        settings=settings,
        evaluation=evaluation,
        classes={row["name"]: row for row in evaluation["per_class"]},
        kind=kind,
        flattens=flattens,
        results=results(evaluation),
        command=_command(training, on_hub),
        procedure=_procedure(settings),
        plots=[path.stem for path in folder.plots],
        facts=_facts(training),
        machine=_machine(training.get("machine") or {}),
        year=str(training.get("date") or "")[:4],
        oldest_keras=MIN_KERAS_VERSION,
        dataset=dataset,
        known_as=f"{labels.dataset} {recorded.get('id')}".lower(),
        class_count=len(labels.classes),
        image_size=folder.image_size,
        onnx=ONNX if (folder.path / ONNX).is_file() else None,
        comparison=_comparison(folder, compare),
    )
    lines = [line.rstrip() for line in str(card).split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def _name(folder: ModelFolder) -> str:
    return str(folder.training.get("preset") or folder.path.name)


def results(evaluation: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns the rows of the table of results that an evaluation has: name, formatted value."""
    return [
        (name, FORMATS[form](evaluation[key]))
        for key, name, form in RESULTS
        if isinstance(evaluation.get(key), (int, float))
    ]


def _metadata_results(evaluation: Mapping[str, Any]) -> list[EvalResult]:
    from huggingface_hub import EvalResult

    names = {key: name for key, name, _ in RESULTS}
    return [
        EvalResult(
            task_type="image-classification",
            task_name="Image classification",
            dataset_type=evaluation["dataset"],
            dataset_name=evaluation["dataset"],
            dataset_split=evaluation["split"],
            dataset_revision=evaluation.get("dataset_revision"),
            metric_type=kind,
            metric_name=names[key],
            metric_value=evaluation[key],
        )
        for key, kind in METADATA_RESULTS.items()
    ]


def _command(training: Mapping[str, Any], on_hub: str | None) -> str:
    """Returns the command of the training; a local copy of a data set becomes its Hub id."""
    words = shlex.split(training.get("command") or "")
    if on_hub and "--dataset" in words:
        words[words.index("--dataset") + 1] = on_hub
        if "--dataset-id" in words:
            position = words.index("--dataset-id")
            del words[position : position + 2]
    return shlex.join(words)


def _base_model(training: Mapping[str, Any]) -> str | None:
    """Returns the Hub id of the model that was fine-tuned, None if there is none."""
    origin = training.get("init_from") or {}
    # A model from the Hub has a revision, a folder has none.
    return origin["source"] if origin.get("revision") else None


def _comparison(folder: ModelFolder, compare: Sequence[ModelFolder]) -> list[dict[str, Any]]:
    """Returns the evaluated models, including this one, in descending order of top-1."""
    others = [model for model in compare if _name(model) != _name(folder)]
    rows = [
        {
            "name": _name(model),
            "this": model is folder,
            "training": model.training,
            "evaluation": model.evaluation,
        }
        for model in (folder, *others)
        if model.training and model.evaluation
    ]
    return sorted(rows, key=lambda row: -row["evaluation"]["top1"])


def _procedure(settings: Mapping[str, Any]) -> str:
    """Describes the training procedure in one sentence; empty without recorded settings."""
    optimizer = OPTIMIZERS.get(settings.get("optimizer", ""))
    schedule = SCHEDULES.get(settings.get("schedule", ""))
    rate, batch = settings.get("learning_rate"), settings.get("batch_size")
    parts = []
    if optimizer:
        targets = "" if settings.get("teacher") else " on one-hot labels"
        parts.append(f"Trained with {optimizer.text}{targets} (categorical cross-entropy)")
    if batch:
        parts.append(f"in batches of {batch:,}")
    if schedule and rate:
        parts.append(f"with {schedule.text}, at most {rate:g}")
    if settings.get("teacher"):
        parts.append(f"by knowledge distillation from {_text(settings['teacher'])}")
    off = Settings().to_dict()
    changes = [
        words for key, words in AUGMENTATIONS.items() if settings.get(key, off[key]) != off[key]
    ]
    if changes:
        parts.append(f"with data augmentation ({', '.join(dict.fromkeys(changes))})")
    return f"{', '.join(parts)}." if parts else ""


def _facts(training: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Returns the records of `training.json` that the card does not show elsewhere."""
    facts = [(key, value) for key, value in training.items() if key not in RENDERED_KEYS]
    versions = training.get("versions") or {}
    return facts + [(f"version of {library}", version) for library, version in versions.items()]


def _machine(machine: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in machine.items() if value) or "not recorded"


def _format(pattern: str, unit: float = 1) -> Callable[[Any], str]:
    """Returns a function that formats a number, in multiples of `unit`; None becomes a dash."""
    return lambda value: pattern.format(value / unit) if isinstance(value, (int, float)) else "–"


def _duration(seconds: Any) -> str:
    if not isinstance(seconds, (int, float)):
        return "–"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _text(value: Any) -> str:
    """Escapes a value for a Markdown table: no emphasis, links, HTML or math."""
    if not isinstance(value, str):
        value = "–" if value is None else json.dumps(value, ensure_ascii=False)
    line = " ".join(value.split())
    # Underscores between letters or digits do not mark emphasis and need no escape.
    return re.sub(r"([\\`|<>\[\]*$~&]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", line)


# The template's functions.
FORMATS: dict[str, Any] = {
    "percent": _format("{:.2%}"),
    "number": _format("{:.4f}"),
    "points": _format("{:.1f}", 0.01),
    "whole": _format("{:,.0f}"),
    "hours": _format("{:.2f}", 3600),
    "megaflops": _format("{:,.1f}", 1e6),
    "duration": _duration,
    "text": _text,
}


def main(arguments: list[str]) -> None:
    """Rewrites the cards of model folders, each compared with the embedded models."""
    parser = command_line.argument_parser("Rewrite the cards of model folders.")
    parser.add_argument("folders", nargs="+", metavar="FOLDER")
    for name in parser.parse_args(arguments).folders:
        folder = find(name)
        print(write(folder, compare=others(folder)))


def others(folder: ModelFolder) -> list[ModelFolder]:
    """Returns the embedded models of other presets with the same classes."""
    return [
        other
        for other in embedded_models()
        if other.training.get("preset") != folder.training.get("preset")
        and other.labels.classes == folder.labels.classes
    ]


if __name__ == "__main__":
    sys.exit(command_line.run(main))
