"""Compares the cost, accuracy and robustness of trained models.

python -m benchmarks.compare                               # every model in pretrained/
python -m benchmarks.compare --dataset path/to/cifar100 pretrained/mlp runs/mine

It writes tables (`comparison.md`, `summary.md`) and a figure (`robustness.png`) to
`benchmarks/results`, and all values to `pretrained/comparison.json`, which the app reads. With
`--output`, everything is written to that folder.

Models are sorted by increasing top-1. Shares are fractions between 0 and 1; unknown values are
null. `robustness` is the input of `evaluation.plots.comparison.robustness_curves`, with shifts and
blurs in pixels. Latency is measured with one image on one core.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import output
from classifier import command_line, provenance
from classifier.data.labelled_images import LabelledImages
from classifier.data.loading import load_split
from classifier.data.source import DataSource, add_data_arguments
from classifier.errors import ClassifierError, InputError
from classifier.hub import sources
from classifier.model_folder.folder import ModelFolder
from classifier.presets import preset_names
from classifier.settings import Settings
from evaluation import plots, report
from evaluation.corruptions import LEVELS, corrupt
from evaluation.plots.comparison import robustness_curves
from evaluation.samples import stratified_subset
from evaluation.themes import LIGHT

if TYPE_CHECKING:  # slow to import, and not needed for `--help` and invalid arguments
    from classifier.prediction.classifier import Classifier

SEED = 0
KEPT = ("top1", "top1_interval", "top5", "superclass_top1", "macro_f1")
KEPT += ("expected_calibration_error",)
GROUPS = ALONE, TAUGHT, CONVOLUTIONAL = (
    "dense only, alone",
    "dense only, taught by our CNN",
    "convolutional",
)
# The published record of the first group, shown beside the model that competes with it.
RECORD_CELLS = ["[β-LASSO](https://arxiv.org/abs/2007.13657)", f"{ALONE}: the published record"]
RECORD_CELLS += ["59.56%", "59.56%", *["–"] * 5]
RECORD = {"mlp-alone": (0.5956, RECORD_CELLS)}
ROBUSTNESS_IMAGES = 2000  # of the test split, the classes in proportion; 95% interval: ± 2 points


def main(arguments: list[str]) -> None:
    """Measures the models and writes the results."""
    parser = output.parser(
        "compare", "Compares trained models: cost, accuracy, and robustness to corrupted images."
    )
    parser.add_argument(
        "models", nargs="*", metavar="MODEL_FOLDER", help="default: all of pretrained/"
    )
    add_data_arguments(parser)
    options = parser.parse_args(arguments)
    folders = choose(options.models)
    size, *others = {folder.image_size for folder in folders.values()}
    if others:
        raise InputError("the models take images of several sizes: compare models of one size")
    split = load_split(DataSource.from_options(options), "test", size=size)
    comparison = {**output.command_and_date("compare", arguments), **compare(folders, split)}
    write(comparison, options.output)
    print(table(comparison))
    print(f"Written to {options.output or output.RESULTS}.")


def compare(folders: dict[str, ModelFolder], split: LabelledImages) -> dict[str, Any]:
    """Measures every model, by name, on the same images.

    Returns:
        The content of `comparison.json`, but for the command and the date.
    """
    measured = [measure(folder, name, split) for name, folder in folders.items()]
    measured.sort(key=lambda result: result["figures"]["top1"])
    side = split.images.shape[1]
    return {
        **output.machine(),
        "dataset": {
            "id": split.dataset,
            "revision": split.revision,
            "fingerprint": split.fingerprint,
            "split": "test",
            "images": len(split.labels),
        },
        "models": [result["figures"] for result in measured],
        "robustness": {
            kind: {
                "levels": [level * (side if kind in ("shift", "blur") else 1) for level in levels],
                "top1": {x["figures"]["name"]: x["robustness"][kind] for x in measured},
            }
            for kind, levels in LEVELS.items()
        },
        "robustness_seed": SEED,
        "robustness_images": min(ROBUSTNESS_IMAGES, len(split.labels)),
        "class_accuracy": {x["figures"]["name"]: x["class_accuracy"] for x in measured},
    }


def measure(folder: ModelFolder, name: str, split: LabelledImages) -> dict[str, Any]:
    """Measures the metrics, the accuracy by class and the robustness of one model."""
    from classifier.architectures.flops import flops_per_image
    from classifier.architectures.views import average_views, networks_of
    from classifier.prediction.classifier import Classifier, keras_predict

    split = split.to_classes(folder.labels.classes)
    latency = one_core_latency(folder)
    model, training = folder.load_model(), folder.training
    classifier = Classifier(keras_predict(model), folder)
    evaluation = report.summarise(
        classifier.probabilities(split.images), split.labels, folder.labels
    )
    chosen = stratified_subset(split.labels, ROBUSTNESS_IMAGES)
    print(f"{name}: {evaluation['top1']:.1%} top-1, {latency['median']} ms an image", flush=True)
    train_top1 = training.get("train_top1")
    networks = networks_of(model)
    one_view = Classifier(keras_predict(average_views(networks, Settings())), folder)
    figures = {
        "name": name,
        "category": category(training),
        "networks": len(networks),
        "seed": training.get("seed"),
        "parameters": model.count_params(),
        "training_seconds": provenance.training_seconds(training),
        "training_machine": training.get("machine"),
        "flops_per_image": flops_per_image(model),
        "bytes": sum((folder.path / file).stat().st_size for file in folder.files()),
        **{key: evaluation[key] for key in KEPT},
        "one_view_top1": top1(one_view, split.images, split.labels),
        "train_top1": train_top1,
        "train_test_gap": None if train_top1 is None else round(train_top1 - evaluation["top1"], 6),
        "latency_ms": latency,
    }
    return {
        "figures": figures,
        "class_accuracy": {row["name"]: row["accuracy"] for row in evaluation["per_class"]},
        "robustness": robustness(classifier, split.images[chosen], split.labels[chosen]),
    }


def category(training: Mapping[str, Any]) -> str:
    """Returns the group of comparable models, by the record of the training.

    Dense networks that start from another model count as taught: its weights may be convolutions.
    Those with a teacher do unless that is recorded to be a dense network alone itself.
    """
    settings, teacher = training.get("settings", {}), training.get("teacher")
    if settings.get("architecture") == "cnn" or settings.get("tied"):
        return CONVOLUTIONAL
    if training.get("init_from") or (settings.get("teacher") and not teacher):
        return TAUGHT
    return category(teacher) if teacher else ALONE


def robustness(
    classifier: "Classifier", images: np.ndarray, labels: np.ndarray
) -> dict[str, list[float]]:
    """Returns the top-1 at each level of each corruption; the first level is no corruption."""

    untouched = top1(classifier, images, labels)
    curves = {}
    for kind, levels in LEVELS.items():
        corrupted = (corrupt(images, kind, level, seed=SEED) for level in levels[1:])
        curves[kind] = [untouched, *(top1(classifier, changed, labels) for changed in corrupted)]
        print(f"  {kind}: {' '.join(f'{share:.1%}' for share in curves[kind])}", flush=True)
    return curves


def top1(classifier: "Classifier", images: np.ndarray, labels: np.ndarray) -> float:
    """Returns the top-1 accuracy."""
    right = classifier.probabilities(images).argmax(axis=1) == labels
    return round(float(right.mean()), 6)


def one_core_latency(folder: ModelFolder) -> dict[str, float]:
    """Runs `benchmarks.latency` in a separate process, which can limit its threads."""
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.latency", str(folder.path.resolve())],
        cwd=output.PROJECT,
        capture_output=True,
        text=True,
    )
    if result.returncode:
        raise ClassifierError(f"the latency of {folder.path} cannot be measured: {result.stderr}")
    return json.loads(result.stdout.splitlines()[-1])


def table(comparison: dict[str, Any]) -> str:
    """Returns the comparison as Markdown: a column per model, a row per figure."""
    models = comparison["models"]
    names = [model["name"] for model in models]
    rows = [(label, [text(model) for model in models]) for label, text in ROWS]
    for kind, label, level in SHOWN_LEVELS:
        curve = comparison["robustness"][kind]
        if level in curve["levels"]:  # those in pixels depend on the images' size
            place = curve["levels"].index(level)
            rows.append((label, [_percent(curve["top1"][name][place]) for name in names]))
    lines = [[label, *cells] for label, cells in rows]
    data, machine = comparison["dataset"], comparison["machine"]
    note = (
        f"{data['images']:,} test images of {data['id']}; changed images: "
        f"{comparison['robustness_images']:,} of them. Latency: one image on one core of "
        f"{machine['processor']}, Keras on {machine['backend']}. {comparison['date']}, "
        f"`{comparison['command']}`."
    )
    return "\n".join([output.markdown(["", *names], lines, "l" + "r" * len(names)), "", note, ""])


def summary(comparison: dict[str, Any]) -> str:
    """Returns the main figures as Markdown: a row per model, in groups."""
    header = ["", "", "top-1", "one view", "top-5", "calibration error", "parameters"]
    header += ["one image, one core", "training"]
    rows = []
    for model in comparison["models"]:
        name = model["name"]
        link = f"[`{name}`](presets/{name}.yaml)" if name in preset_names() else f"`{name}`"
        cells = [
            link,
            model["category"] + _committee(model["networks"]),
            f"**{_percent(model['top1'])}**",
            _percent(model["one_view_top1"]),
            _percent(model["top5"]),
            _percent(model["expected_calibration_error"]),
            f"{model['parameters'] / 1e6:.1f} M",
            f"{model['latency_ms']['median']:.1f} ms",
            _training_time(model),
        ]
        group = GROUPS.index(model["category"])
        rows.append((group, model["top1"], cells))
        if name in RECORD:
            rows.append((group, *RECORD[name]))
    data, machine = comparison["dataset"], comparison["machine"]
    seeds = ", ".join(
        str(seed) for seed in sorted({row["seed"] for row in comparison["models"]} - {None})
    )
    note = (
        f"{data['images']:,} test images of {data['id']}; seed {seeds}; {machine['processor']}. "
        f"{comparison['date']}, `{comparison['command']}`."
    )
    lines = [cells for *_, cells in sorted(rows)]
    return "\n".join([output.markdown(header, lines, "llrrrrrrr"), "", note, ""])


def write(comparison: dict[str, Any], folder: Path | None) -> None:
    """Writes the tables, the figure and all values."""
    results, numbers = folder or output.RESULTS, folder or sources.PRETRAINED
    files: dict[Path, str | bytes] = {
        numbers / "comparison.json": output.as_json(comparison),
        results / "comparison.md": table(comparison),
        results / "summary.md": summary(comparison),
    }
    figure = robustness_curves(comparison["robustness"], theme=LIGHT)
    files[results / "robustness.png"] = plots.png(figure)
    output.write_files(files, folder)


def choose(names: list[str]) -> dict[str, ModelFolder]:
    """Returns the model folders that the command names, or all embedded ones, by name."""
    names = names or [str(folder.path) for folder in sources.embedded_models()]
    if not names:
        raise InputError("pretrained/ holds no models: name model folders")
    chosen: dict[str, ModelFolder] = {}
    for found in map(sources.locate, names):
        if found.name in chosen:
            raise InputError(f"two models are called {found.name}: rename the folder of one")
        chosen[found.name] = found.folder
    return chosen


def _percent(share: float | None, digits: int = 1) -> str:
    return "–" if share is None else f"{share:.{digits}%}"


def _committee(networks: int) -> str:
    return f"; mean of {networks} networks, one taught by the rest" if networks > 1 else ""


def _points(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} points"


def _training_time(model: dict[str, Any]) -> str:
    """Returns the minutes, with the accelerator if the training had one."""
    seconds, machine = model["training_seconds"], model["training_machine"] or {}
    parts = ["–" if seconds is None else f"{seconds / 60:.0f} min", machine.get("accelerator")]
    return ", ".join(filter(None, parts))


def _interval(model: dict[str, Any]) -> str:
    low, high = (100 * bound for bound in model["top1_interval"])
    return f"{low:.1f} – {high:.1f}%"


ROWS = [
    ("parameters", lambda model: f"{model['parameters'] / 1e6:.2f} M"),
    ("operations per image", lambda model: f"{model['flops_per_image'] / 1e6:.1f} MFLOP"),
    ("model folder", lambda model: f"{model['bytes'] / 2**20:.1f} MB"),
    ("latency, one image on one core", lambda model: f"{model['latency_ms']['median']:.1f} ms"),
    ("training time", _training_time),
    ("**top-1**", lambda model: f"**{_percent(model['top1'])}**"),
    ("top-1 with one view", lambda model: _percent(model["one_view_top1"])),
    ("95% interval", _interval),
    ("top-5", lambda model: _percent(model["top5"])),
    ("macro F1", lambda model: _percent(model["macro_f1"])),
    ("superclass top-1", lambda model: _percent(model["superclass_top1"])),
    ("calibration error", lambda model: _percent(model["expected_calibration_error"])),
    ("top-1 on training images", lambda model: _percent(model["train_top1"])),
    ("train–test gap", lambda model: _points(model["train_test_gap"])),
]
SHOWN_LEVELS = [
    ("shift", "top-1, shifted by 4 pixels", 4),
    ("shift", "top-1, shifted by 8 pixels", 8),
    ("rotation", "top-1, rotated by 15°", 15),
    ("rotation", "top-1, rotated by 45°", 45),
    ("blur", "top-1, blurred (radius 1 pixel)", 1),
    ("brightness", "top-1, at 40% of the brightness", 0.4),
    ("noise", "top-1, noise (σ = 20 of 255)", 20),
]


if __name__ == "__main__":
    sys.exit(command_line.run(main))
