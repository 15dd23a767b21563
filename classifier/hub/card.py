"""Renders the model card from a template and the files of the model folder."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifier import command_line
from classifier.errors import InputError
from classifier.files import write_text
from classifier.hub.dataset_id import hub_dataset
from classifier.hub.sources import HUB_SCHEME, embedded_models, find
from classifier.model_folder.folder import CARD, EVALUATION, ONNX, TRAINING, ModelFolder
from classifier.model_folder.saved_model import MIN_KERAS_VERSION

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

TEMPLATE = Path(__file__).resolve().parents[2] / "model_card.md"
LICENCE = "mit"
PROJECT_TITLE = "Image classifiers made of dense layers for CIFAR-100"

# The text for each architecture; figures come from the model folder.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "mlp": {
        "kind": "a plain multilayer perceptron",
        "description": "An image classifier made of dense layers: pixels are flattened, pass "
        "through dense layers with ReLU, and end in a softmax.",
        "tags": ["mlp", "multilayer-perceptron"],
        "flattens": True,
    },
    "residual_mlp": {
        "kind": "a network of dense layers with residual connections",
        "description": "An image classifier made of dense layers: pixels are flattened, pass "
        "through residual inverted-bottleneck blocks of dense layers (layer normalisation, SiLU), "
        "and end in a softmax.",
        "tags": ["mlp", "residual-mlp"],
        "flattens": True,
    },
    "tied": {
        "kind": "a network of convolutions and dense layers",
        "description": "An image classifier made of convolutions and dense layers: the start of a "
        "network of dense layers alone, whose first layers share their weights between places.",
        "tags": ["cnn"],
        "flattens": False,
    },
    "cnn": {
        "kind": "a small convolutional network",
        "description": "An image classifier made of 3×3 convolutions with batch normalisation and "
        "residual connections: the yardstick for networks of dense layers.",
        "tags": ["cnn"],
        "flattens": False,
    },
}
UNKNOWN_ARCHITECTURE: dict[str, Any] = {
    "kind": "this network",
    "description": "An image classifier.",
    "tags": [],
    "flattens": False,
}
OPTIMIZERS = {"sgd": "SGD with Nesterov momentum", "adamw": "AdamW", "lion": "Lion"}
SCHEDULES = {
    "plateau": "a learning rate that falls when the validation loss does not",
    "cosine": "a learning rate that follows a cosine to zero",
    "constant": "a constant learning rate",
}
AUGMENTATIONS = {
    "flip": "mirrored",
    "shift": "shifted",
    "brightness": "brighter or darker",
    "contrast": "with more or less contrast",
    "erasing": "partly greyed out",
    "cutmix": "with a rectangle of another pasted in",
    "mixup": "mixed in pairs",
}
# Parts of training.json that are not repeated in the card's last table.
RENDERED_KEYS = ("preset", "settings", "dataset", "parameters", "command", "machine", "versions")
RENDERED_MACHINE_KEYS = ("accelerator", "processor", "cores")
SHOWN_PLOTS = (
    "training",
    "confusion_matrix",
    "superclass_confusion_matrix",
    "precision_recall",
    "roc",
    "class_histograms",
    "reliability",
    "best_and_worst_classes",
    "most_confused_pairs",
)
HEADLINE = {
    "top1": "Top-1 accuracy",
    "top5": "Top-5 accuracy",
    "superclass_top1": "Superclass accuracy",
    "macro_precision": "Macro precision",
    "macro_recall": "Macro recall",
    "macro_f1": "Macro F1",
    "macro_average_precision": "Macro average precision",
    "macro_roc_auc": "Macro ROC AUC",
    "expected_calibration_error": "Expected calibration error",
    "loss": "Cross-entropy",
}
SHARES = ("top1", "top5", "superclass_top1")
CIFAR = """@techreport{krizhevsky2009learning,
  title = {Learning Multiple Layers of Features from Tiny Images},
  author = {Krizhevsky, Alex},
  institution = {University of Toronto},
  year = {2009}
}"""
SCALING_MLPS = """@inproceedings{bachmann2023scaling,
  title = {Scaling {MLPs}: A Tale of Inductive Bias},
  author = {Bachmann, Gregor and Anagnostidis, Sotiris and Hofmann, Thomas},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2023}
}"""
NEEDLE = """@inproceedings{dascoli2019finding,
  title = {Finding the Needle in the Haystack with Convolutions: on the benefits of architectural
    bias},
  author = {d'Ascoli, St{\'e}phane and Sagun, Levent and Biroli, Giulio and Bruna, Joan},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2019}
}"""
BETA_LASSO = """@inproceedings{neyshabur2020towards,
  title = {Towards Learning Convolutions from Scratch},
  author = {Neyshabur, Behnam},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2020}
}"""


def write(folder: ModelFolder | Path, *, compare: Sequence[ModelFolder] = ()) -> Path:
    """Writes the card into a model folder and returns its path; raises what `render` raises."""
    folder = folder if isinstance(folder, ModelFolder) else ModelFolder(Path(folder))
    text = render(folder, compare=compare)
    path = folder.path / CARD
    write_text(path, text)
    return path


def render(folder: ModelFolder | Path, *, compare: Sequence[ModelFolder] = ()) -> str:
    """Renders the card of a model folder, metadata included.

    Args:
        folder: with `labels.json`, `training.json` and `evaluation.json`.
        compare: other models for the comparison table; those without figures are left out.

    Raises:
        InputError: the folder lacks one of the files.
    """
    from huggingface_hub import ModelCard, ModelCardData

    folder = folder if isinstance(folder, ModelFolder) else ModelFolder(Path(folder))
    training, evaluation = folder.training, folder.evaluation
    if not training or not evaluation:
        missing = TRAINING if not training else EVALUATION
        raise InputError(f"{folder.path} has no {missing}: the card needs it")
    labels = folder.labels
    recorded = training.get("dataset") or {}
    on_hub = hub_dataset(*(recorded.get(key) for key in ("id", "revision", "fingerprint")))
    dataset = on_hub or recorded.get("id") or labels.dataset or "its data set"
    evaluated = (f"dataset{part}" for part in ("", "_revision", "_fingerprint"))
    evaluated_on = hub_dataset(*(evaluation.get(key) for key in evaluated))
    evaluation = {**evaluation, "dataset": evaluated_on or evaluation.get("dataset") or dataset}
    training = {**training, "dataset": {**recorded, "id": dataset} if recorded else {}}
    name = _name(folder)
    architecture = _architecture(training)
    data = ModelCardData(
        model_name=name,
        language="en",
        license=LICENCE,
        library_name="keras",
        pipeline_tag="image-classification",
        datasets=[on_hub] if on_hub else None,
        base_model=_base_model(training),
        tags=["image-classification", "keras", *architecture["tags"]],
        metrics=["accuracy", "f1"],
        eval_results=_results(evaluation),
        ignore_metadata_errors=False,
    )
    card = ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        **_text_parts(folder, training, evaluation, architecture),
        **_formats(),
        name=name,
        dataset=dataset,
        class_count=len(labels.classes),
        image_size=folder.image_size,
        onnx=ONNX if (folder.path / ONNX).is_file() else None,
        comparison=_comparison(folder, compare),
    )
    return _tidy(str(card))


def _text_parts(
    folder: ModelFolder,
    training: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    architecture: Mapping[str, Any],
) -> dict[str, Any]:
    plots = [path.stem for path in folder.plots]
    settings = training.get("settings") or {}
    return {
        "training": {"dataset": {}, **training, "settings": settings},
        "evaluation": evaluation,
        "classes": {row["name"]: row for row in evaluation["per_class"]},
        "architecture": {**architecture, "procedure": _procedure(training)},
        "headline": _headline(evaluation),
        "plots": plots,
        "other_plots": [name for name in plots if name not in SHOWN_PLOTS],
        "facts": _facts(training),
        "machine": _machine(training.get("machine") or {}),
        "oldest_keras": MIN_KERAS_VERSION,
        "citation": _citation(_name(folder), training),
        "references": _references(folder, settings),
    }


def _architecture(training: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the texts of the architecture; the first sentence says where its knowledge is from.

    A teacher or layers that began as convolutions or local make another category of result.
    """
    settings = training.get("settings") or {}
    name = "tied" if settings.get("tied") else settings.get("architecture", "")
    architecture = ARCHITECTURES.get(name, UNKNOWN_ARCHITECTURE)
    origins = []
    if not settings.get("tied") and settings.get("local_maps"):
        origins.append("whose first layers began as convolutions")
    elif settings.get("local_units") and not settings.get("local_maps"):
        origins.append("whose first layers began as local receptive fields")
    if settings.get("teacher"):
        origins.append("trained on the answers of another model")
    first, colon, rest = architecture["description"].partition(":")
    first = ", ".join([first, *origins])
    return {**architecture, "description": first + colon + rest}


def _name(folder: ModelFolder) -> str:
    return str(folder.training.get("preset") or folder.path.name)


def _results(evaluation: Mapping[str, Any]) -> list[EvalResult]:
    from huggingface_hub import EvalResult

    def result(key: str, kind: str, name: str) -> EvalResult:
        return EvalResult(
            task_type="image-classification",
            task_name="Image classification",
            dataset_type=evaluation["dataset"],
            dataset_name=evaluation["dataset"],
            dataset_split=evaluation["split"],
            dataset_revision=evaluation.get("dataset_revision"),
            metric_type=kind,
            metric_name=name,
            metric_value=evaluation[key],
        )

    return [
        result("top1", "accuracy", "Top-1 accuracy"),
        result("top5", "top_5_accuracy", "Top-5 accuracy"),
        result("macro_f1", "f1", "Macro F1"),
    ]


def _headline(evaluation: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for key, label in HEADLINE.items():
        value = evaluation.get(key)
        if value is not None:
            rows.append((label, _percent(value) if key in SHARES else _number(value)))
    return rows


def _base_model(training: Mapping[str, Any]) -> str | None:
    """Returns the Hub id of the model that was fine-tuned, None if there is none."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    source = training.get("init_from")
    if isinstance(source, Mapping):  # a model from the Hub has a revision, a folder has none
        source = f"{HUB_SCHEME}{source.get('source')}" if source.get("revision") else None
    if not isinstance(source, str):
        return None
    name = source.removeprefix(HUB_SCHEME).partition("@")[0]
    # A relative path looks like a Hub id: exclude existing paths and the folders of runs.
    is_path = name.split("/")[0] in ("pretrained", "runs") or Path(name).exists()
    if name.count("/") != 1 or (is_path and not source.startswith(HUB_SCHEME)):
        return None
    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    return name


def _comparison(folder: ModelFolder, compare: Sequence[ModelFolder]) -> list[dict[str, Any]]:
    """Returns the models with figures, best first, including this one."""
    others = [
        other
        for other in compare
        if other.path.resolve() != folder.path.resolve() and _name(other) != _name(folder)
    ]
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


def _procedure(training: Mapping[str, Any]) -> str:
    """Describes the training procedure from `training.json`."""
    settings = training.get("settings") or {}
    optimizer = OPTIMIZERS.get(settings.get("optimizer", ""))
    schedule = SCHEDULES.get(settings.get("schedule", ""))
    rate, batch = settings.get("learning_rate"), settings.get("batch_size")
    parts = []
    if optimizer:
        parts.append(f"Trained with {optimizer} on one-hot labels (categorical cross-entropy)")
    if batch:
        parts.append(f"in batches of {batch:,}")
    if schedule and rate:
        parts.append(f"with {schedule}, at most {rate:g}")
    if settings.get("teacher"):
        parts.append(f"towards the answers of a trained model, {_text(settings['teacher'])}")
    cropped = settings.get("crop_area", 1) < 1 or settings.get("crop_aspect", 1) > 1
    changes = ["cropped"] if cropped else []
    changes += [words for key, words in AUGMENTATIONS.items() if settings.get(key)]
    if changes:
        parts.append(f"on images that were changed at random each time ({', '.join(changes)})")
    sentences = [f"{', '.join(parts)}."] if parts else []
    return " ".join([*sentences, *_local_start(settings, bool(training.get("init_from")))])


def _local_start(settings: Mapping[str, Any], fine_tuned: bool) -> list[str]:
    """Describes the local receptive-field initialisation in one sentence, if it was used."""
    if settings.get("tied") or not settings.get("local_units"):
        return []
    if settings.get("local_maps"):
        count = len(settings["local_maps"])
        if not fine_tuned:
            return [f"The first {count} dense layers began as convolutions with random weights."]
        return [
            f"The first {count} dense layers began as convolutions: a network whose layers share "
            "their weights between positions was trained first and converted to equivalent dense "
            "layers, of which then all weights were trained."
        ]
    patches = settings.get("local_patches") or []
    sides = " and ".join(f"{side}×{side}" for side in patches)
    start = f"The first {len(patches)} dense layers have a local receptive-field initialisation: "
    start += f"each unit starts with weights for a random patch of {sides} pixels only"
    if settings.get("prune_threshold"):
        start += (
            "; all weights are trained, and weights below a threshold are set to zero after each "
            "step (the hard threshold of β-LASSO)"
        )
    return [f"{start}."]


def _facts(training: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns the records of `training.json` that the card does not show elsewhere."""
    versions = training.get("versions") or {}
    rows = [(f"version of {library}", version) for library, version in versions.items()]
    return [(key, value) for key, value in training.items() if key not in RENDERED_KEYS] + rows


def _machine(machine: Mapping[str, Any]) -> str:
    if not machine:
        return "not recorded"
    described = [
        str(machine["accelerator"]) if machine.get("accelerator") else "",
        str(machine.get("processor") or ""),
        f"{machine['cores']} cores" if machine.get("cores") else "",
    ]
    rest = [
        f"{key}: {value}"
        for key, value in machine.items()
        if key not in RENDERED_MACHINE_KEYS and value
    ]
    return ", ".join(part for part in [*described, *rest] if part)


def _citation(name: str, training: Mapping[str, Any]) -> str:
    year = re.match(r"\d{4}", str(training.get("date") or ""))
    lines = [f"  title = {{{PROJECT_TITLE}}},", f"  note = {{Model: {name}}}"]
    if year:
        lines = [*lines[:-1], f"{lines[-1]},", f"  year = {{{year[0]}}}"]
    return "\n".join(["@misc{cifar100-mlp,", *lines, "}"])


def _references(folder: ModelFolder, settings: Mapping[str, Any]) -> str:
    known = f"{folder.labels.dataset} {(folder.training.get('dataset') or {}).get('id')}".lower()
    parts = [CIFAR] if "cifar" in known else []
    if settings.get("architecture") == "residual_mlp":
        parts.append(SCALING_MLPS)
    if settings.get("local_maps"):
        parts.append(NEEDLE)
    if settings.get("prune_threshold"):
        parts.append(BETA_LASSO)
    return "\n\n".join(parts)


def _formats() -> dict[str, Any]:
    """Returns the template's formatting functions; they format None as a dash."""
    return {
        "percent": _percent,
        "number": _number,
        "text": _text,
        "points": lambda value: _given(value, lambda known: f"{100 * known:.1f}"),
        "whole": lambda value: _given(value, lambda known: f"{known:,}"),
        "hours": lambda value: _given(value, lambda known: f"{known / 3600:.2f}"),
        "megaflops": lambda value: _given(value, lambda known: f"{known / 1e6:,.1f}"),
        "duration": lambda value: _given(value, _duration),
    }


def _given(value: Any, form: Any) -> str:
    return form(value) if isinstance(value, (int, float)) else "–"


def _percent(value: Any) -> str:
    return _given(value, lambda known: f"{known:.2%}")


def _number(value: Any) -> str:
    return _given(value, lambda known: f"{known:.4f}")


def _duration(seconds: float) -> str:
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


def _tidy(text: str) -> str:
    """Collapses the blank lines that the template leaves."""
    lines: Iterable[str] = (line.rstrip() for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


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
