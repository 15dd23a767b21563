"""Measures the file size, the single-core latency and the top-1 of a model in each format.

python -m benchmarks.formats --model pretrained/cnn --model pretrained/mlp
python -m benchmarks.formats --model pretrained/cnn --dataset uoft-cs/cifar100
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import output
from benchmarks.latency import keep_to_one_core, milliseconds_of
from classifier import command_line
from classifier.convert import FORMATS, is_right, sample_images, samples_of
from classifier.data.source import DataSource, add_data_arguments
from classifier.hub import sources

if TYPE_CHECKING:
    from classifier.data.labelled_images import LabelledImages
    from classifier.model_folder.folder import ModelFolder
    from classifier.prediction.classifier import Classifier

PRECISIONS = ("float32", "half", "int8")


def main(arguments: list[str]) -> None:
    """Measures the given models and writes the table."""
    parser = output.parser("formats", "Measures size, latency and top-1 of models in each format.")
    parser.add_argument("--model", action="append", metavar="SOURCE", required=True)
    add_data_arguments(parser, optional=True)  # for the top-1 on the test split
    options = parser.parse_args(arguments)
    keep_to_one_core()
    from classifier.data.loading import load_split

    state = output.circumstances("formats", arguments)
    rows: list[dict[str, Any]] = []
    for source in options.model:
        folder = sources.locate(source).folder
        test, calibration = None, sample_images(folder.image_size)
        if options.dataset is not None:
            data = DataSource.from_options(options)
            test = load_split(data, "test", size=folder.image_size)
            training = load_split(data, "train", size=folder.image_size)
            calibration = samples_of(training.images)
        rows += measure(folder, test, calibration)
    result = {**state, "rows": rows, **output.machine()}
    output.write("formats", result, {"formats.md": table(result)}, options.output)


def measure(
    folder: ModelFolder, test: LabelledImages | None, calibration: np.ndarray
) -> list[dict[str, Any]]:
    """Returns a row for Keras and one for each format and precision of a model."""
    from classifier.convert import BATCH
    from classifier.prediction.classifier import Classifier, keras_predict

    model = folder.load_model()
    original = Classifier(keras_predict(model), folder)
    size = (folder.path / "model.weights.h5").stat().st_size
    rows = [row(original, "Keras", size, test)]
    with TemporaryDirectory() as place:
        for form in FORMATS.values():
            for precision in PRECISIONS:
                path = Path(place) / f"model{form.suffix}"
                predict = form.write(model, folder, path, precision, calibration)
                converted = Classifier(predict, folder, BATCH)
                name = f"{form.title} {precision}".removesuffix(" float32")
                rows.append(row(converted, name, path.stat().st_size, test))
    return rows


def row(
    classifier: Classifier, form: str, size: int, test: LabelledImages | None
) -> dict[str, Any]:
    """Returns the measurements of a model in one format; times in milliseconds."""
    side = classifier.image_size
    image = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
    median = round(float(np.median(milliseconds_of(lambda: classifier.probabilities(image)))), 3)
    top1 = None
    if test is not None:
        top1 = float(is_right(classifier, test).mean())
    return {
        "model": classifier.folder.path.name,
        "format": form,
        "bytes": size,
        "milliseconds": median,
        "top1": top1,
    }


def table(result: dict[str, Any]) -> str:
    """Returns the table as Markdown."""
    header = ["model", "format", "size", "one image, one core", "top-1"]
    rows = [
        [
            item["model"],
            item["format"],
            f"{item['bytes'] / 10**6:.1f} MB",
            f"{item['milliseconds']:.2f} ms",
            "–" if item["top1"] is None else f"{item['top1']:.1%}",
        ]
        for item in result["rows"]
    ]
    remark = f"On {result['machine']['processor']}. {result['date']}, `{result['command']}`."
    return f"{output.markdown(header, rows, 'llrrr')}\n\n{remark}\n"


if __name__ == "__main__":
    sys.exit(command_line.run(main, batches=False))
