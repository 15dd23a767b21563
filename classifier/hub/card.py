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
from classifier.hub.sources import embedded_models, locate
from classifier.hub_client import check_repo_id, is_hub_id
from classifier.model_folder.folder import CARD, EVALUATION, LABELS, ONNX, TRAINING, ModelFolder
from classifier.model_folder.saved_model import MIN_KERAS_VERSION
from classifier.settings import ARCHITECTURES, AUGMENTATIONS, OPTIMIZERS, SCHEDULES, Settings

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

TEMPLATE = Path(__file__).resolve().parents[2] / "model_card.md"
# Local copies are recognised by the fingerprints of their splits at 32×32 pixels.
KNOWN_FINGERPRINTS = {
    "7b0fbb77ff59ea4f0e5a818b7163a407": "uoft-cs/cifar100",  # train
    "be58d7b9916922c6f1f404ff86093908": "uoft-cs/cifar100",  # test
}
TIED = "convolutions, then dense layers"  # the first stage of the preset mlp
# The table of results: key in evaluation.json, name, format; a push compares it with the card.
RESULTS = (
    ("top1", "Top-1 accuracy", "percent"),
    ("top5", "Top-5 accuracy", "percent"),
    ("superclass_top1", "Superclass accuracy", "percent"),
    ("balanced_accuracy", "Balanced accuracy", "percent"),  # where classes differ in size
    ("macro_precision", "Macro precision", "number"),
    ("macro_recall", "Macro recall", "number"),
    ("macro_f1", "Macro F1", "number"),
    ("macro_average_precision", "Macro average precision", "number"),
    ("macro_roc_auc", "Macro ROC AUC", "number"),
    ("expected_calibration_error", "Expected calibration error", "number"),
    ("loss", "Cross-entropy", "number"),
)
# Those of the metadata, with the names of their metrics on the Hub.
METADATA_RESULTS = {"top1": "accuracy", "top5": "top_5_accuracy", "macro_f1": "f1"}
# Parts of training.json that are not repeated in the card's last table.
SHOWN = {"preset", "settings", "dataset", "parameters", "command", "machine", "versions", "teacher"}


def write(folder: ModelFolder) -> Path:
    """Writes the card of `generate` into a model folder; returns its path."""
    path = folder.path / CARD
    write_text(path, generate(folder))
    return path


def generate(folder: ModelFolder) -> str:
    """Renders the card of a folder, compared with the embedded models of its classes."""
    others = [
        other
        for other in embedded_models()
        if other.training.get("preset") != folder.training.get("preset")
        and other.labels.classes == folder.labels.classes
    ]
    return render(folder, compare=others)


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
    evaluation = {**evaluation, "dataset": evaluated_on}
    name = str(settings.get("architecture", ""))
    kind = TIED if settings.get("tied") else ARCHITECTURES.get(name, "a neural network")
    flattens = "mlp" in name and not settings.get("tied")
    off = Settings().to_dict()
    used = [text for key, text in AUGMENTATIONS.items() if settings.get(key, off[key]) != off[key]]
    origin = training.get("init_from")  # a text in records of earlier versions
    from_hub = isinstance(origin, dict) and origin.get("revision")  # a folder has none
    data = ModelCardData(
        model_name=name_of(folder),
        language="en",
        license="mit",
        library_name="keras",
        pipeline_tag="image-classification",
        datasets=[on_hub] if on_hub else None,
        base_model=origin["source"] if from_hub else None,
        tags=["image-classification", "keras", "mlp" if flattens else "cnn"],
        metrics=["accuracy", "f1"],
        eval_results=_metadata_results(evaluation),
        ignore_metadata_errors=False,
    )
    card = ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        **FUNCTIONS,
        training={**training, "dataset": recorded and {**recorded, "id": dataset}},
        settings=settings,
        evaluation=evaluation,
        classes={row["name"]: row for row in evaluation["per_class"]},
        kind=kind,
        flattens=flattens,
        results=results(evaluation),
        command=_command(training, on_hub),
        optimizer=OPTIMIZERS.get(settings.get("optimizer", "")),
        schedule=SCHEDULES.get(settings.get("schedule", "")),
        augmentations=", ".join(dict.fromkeys(used)),
        plots=[path.stem for path in folder.plots],
        rendered_keys=SHOWN,
        oldest_keras=MIN_KERAS_VERSION,
        dataset=dataset,
        class_count=len(labels.classes),
        image_size=folder.image_size,
        onnx=ONNX if (folder.path / ONNX).is_file() else None,
        folder=folder,
        comparison=sorted(
            (model for model in (folder, *compare) if model.training and model.evaluation),
            key=lambda model: -(model.evaluation or {})["top1"],
        ),
    )
    lines = [line.rstrip() for line in str(card).split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def hub_dataset(name: str | None, revision: str | None, fingerprint: str | None) -> str | None:
    """Returns the Hub id of a data set from its record in a model folder, None if it has none.

    Args:
        name: the id on the Hub, or the name of a folder.
        revision: the commit on the Hub, None for a folder.
        fingerprint: the fingerprint of the split.
    """
    if str(fingerprint) in KNOWN_FINGERPRINTS:
        return KNOWN_FINGERPRINTS[str(fingerprint)]
    # A name without a slash may be a folder that is named like an unrelated data set on the Hub.
    on_the_hub = bool(name) and (revision is not None or "/" in str(name))
    return name if on_the_hub and is_hub_id(str(name)) else None


def check_dataset_id(dataset_id: str, name: str | None, revision: str | None) -> None:
    """Raises InputError if the value of `--dataset-id` is invalid or contradicts the record.

    `name` and `revision` are those of `hub_dataset`.
    """
    check_repo_id(dataset_id, "--dataset-id")
    if revision is not None and name != dataset_id:
        raise InputError(
            f"--dataset-id {dataset_id}: the data set is {name} on the Hub, not a local copy: "
            "leave the option out"
        )


def name_dataset(folder: ModelFolder, dataset_id: str) -> None:
    """Writes the Hub id of the data set into a model folder that was trained on a local copy.

    Its card is not updated. Raises the errors of `check_dataset_id`.
    """
    recorded = folder.training.get("dataset") or {}
    before = recorded.get("id")
    check_dataset_id(dataset_id, before, recorded.get("revision"))
    changes: dict[str, Any] = {TRAINING: {**recorded, "id": dataset_id}, LABELS: dataset_id}
    if folder.evaluation and folder.evaluation.get("dataset") == before:
        changes[EVALUATION] = dataset_id
    for name, dataset in changes.items():
        path = folder.path / name
        content = {**json.loads(path.read_text(encoding="utf-8")), "dataset": dataset}
        write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def name_of(folder: ModelFolder) -> str:
    """Returns the name of a model: its preset, else its folder."""
    return str(folder.training.get("preset") or folder.path.name)


def results(evaluation: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns the rows of the table of results that an evaluation has: name, formatted value."""
    return [
        (name, FUNCTIONS[form](evaluation[key]))
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
        place = words.index("--dataset") + 1
        if words[place].partition("@")[0] != on_hub:  # else it may state a revision
            words[place] = on_hub
        if "--dataset-id" in words:
            position = words.index("--dataset-id")
            del words[position : position + 2]
    return shlex.join(words)


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
FUNCTIONS: dict[str, Any] = {
    "percent": _format("{:.2%}"),
    "number": _format("{:.4f}"),
    "points": _format("{:.1f}", 0.01),
    "whole": _format("{:,.0f}"),
    "hours": _format("{:.2f}", 3600),
    "megaflops": _format("{:,.1f}", 1e6),
    "duration": _duration,
    "text": _text,
    "name_of": name_of,
    "seconds_of": provenance.training_seconds,
}


def main(arguments: list[str]) -> None:
    """Rewrites the cards of model folders."""
    parser = command_line.argument_parser("Rewrite the cards of model folders.")
    parser.add_argument("folders", nargs="+", metavar="FOLDER")
    for name in parser.parse_args(arguments).folders:
        print(write(locate(name).folder))


if __name__ == "__main__":
    sys.exit(command_line.run(main))
