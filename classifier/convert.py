"""Exports a model to ONNX or LiteRT, and verifies that its predictions are unchanged.

python -m classifier.convert pretrained/cnn --to onnx
python -m classifier.convert user/name --to litert --int8 --dataset path/to/images
"""

from __future__ import annotations

import argparse
import importlib
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from classifier import command_line
from classifier.environment import import_onnxruntime, silent_stderr
from classifier.errors import ClassifierError, InputError
from classifier.files import write_atomically, write_text

if TYPE_CHECKING:
    import keras

    from classifier.data.labelled_images import LabelledImages
    from classifier.model_folder.folder import ModelFolder
    from classifier.prediction.classifier import Predict

SUFFIXES = {"onnx": ".onnx", "litert": ".tflite"}
NEEDED = {"onnx": ("onnx", "onnxruntime"), "litert": ("tensorflow",)}
SAMPLES = 200  # images on which the predictions are compared
# In the probability of any class, by the precision of the weights; int8 is judged by its top-1.
MAX_DIFFERENCE = {"float32": 1e-4, "half": 1e-2, "int8": 1.0}
MAX_TOP1_LOSS = 0.005  # on the test split, if it is given
BATCH = 100
CALIBRATED = 20  # images per batch of the calibration


@dataclass(frozen=True)
class Converted:
    """A file that was written and checked.

    Attributes:
        path: the file.
        difference: the largest difference in the probability of any class, over the samples.
        top1: before and after, on the test split; None if it was not given.
    """

    path: Path
    difference: float
    top1: tuple[float, float] | None = None

    def __str__(self) -> str:
        lines = [
            f"Written to {self.path}: {self.path.stat().st_size / 10**6:.1f} MB",
            f"Largest difference from Keras in a probability: {self.difference:.1e}",
        ]
        if self.top1 is not None:
            before, after = self.top1
            lines.append(f"Test top-1: {before:.2%} with Keras, {after:.2%} converted")
        return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Reads the command line and converts."""
    options = parse(arguments)
    check_libraries(options.to)
    from classifier.data.loading import load_split
    from classifier.hub import sources

    folder = sources.find(options.source)
    path = Path(options.output or f"{name_of(folder)}{SUFFIXES[options.to]}")
    if path.suffix != SUFFIXES[options.to]:
        raise InputError(f"--output {path}: name a file that ends with {SUFFIXES[options.to]}")
    command_line.check_output(path)
    test = None
    if options.dataset is not None:
        test = load_split(options.dataset, "test", size=folder.image_size)
        if test.classes != folder.labels.classes:
            raise InputError(f"--dataset {options.dataset} has other classes than the model")
    precision = "half" if options.half else "int8" if options.int8 else "float32"
    print(convert(folder, options.to, path, precision=precision, test=test))
    if test is None and precision != "float32":
        print("What it costs in top-1 was not measured: name the data set with --dataset")


def convert(
    folder: ModelFolder,
    to: str,
    path: Path,
    *,
    precision: str = "float32",
    test: LabelledImages | None = None,
) -> Converted:
    """Converts a model to one file, which is written only if it predicts as Keras does.

    Args:
        folder: the model folder; it is checked first.
        to: "onnx" or "litert".
        path: the file; the class names are written beside a LiteRT file, one a line, as `.txt`.
        precision: of the weights: "float32", "half" or "int8".
        test: images on which the top-1 is measured before and after.

    Raises:
        InputError: the model may not be loaded, or a layer cannot be translated.
        ClassifierError: the predictions differ; nothing is written.
    """
    from classifier.prediction.classifier import Classifier, keras_predict

    model = folder.load_model()
    original = Classifier(keras_predict(model), folder)
    samples = samples_of(folder.image_size, test)
    difference, top1 = 0.0, None

    def write(temporary: Path) -> None:
        nonlocal difference, top1
        predict = FORMATS[to](model, folder, temporary, precision, samples)
        converted = Classifier(predict, folder, BATCH)
        changes = converted.probabilities(samples) - original.probabilities(samples)
        difference = float(np.abs(changes).max())
        if not difference <= MAX_DIFFERENCE[precision]:  # also where it is no number
            raise ClassifierError(
                f"the converted model differs from Keras by {difference:.1e} in a probability, "
                f"more than {MAX_DIFFERENCE[precision]:.0e}: nothing is written"
            )
        if test is None:
            return
        before, after = (
            top1_of(classifier.probabilities(test.images), test)
            for classifier in (original, converted)
        )
        if before - after > MAX_TOP1_LOSS:
            raise ClassifierError(
                f"the converted model has a test top-1 of {after:.2%}, with Keras it is "
                f"{before:.2%}: more than {100 * MAX_TOP1_LOSS} points are lost, and nothing is "
                "written"
            )
        top1 = before, after

    write_atomically(path, write)
    if to == "litert":
        names = "".join(f"{name}\n" for name in folder.labels.classes)
        write_text(path.with_suffix(".txt"), names)
    return Converted(path, difference, top1)


def to_onnx(
    model: keras.Model, folder: ModelFolder, path: Path, precision: str, samples: np.ndarray
) -> Predict:
    """Writes an ONNX file and returns its predictions, (N, S, S, 3) to (N, C)."""
    import onnx

    from classifier.formats.onnx_graph import INPUT, name_classes, write_onnx

    onnxruntime = import_onnxruntime()
    write_onnx(folder, path, half=precision == "half")
    if precision == "int8":
        quantize(path, samples)
        written = onnx.load(path)
        name_classes(written, folder.labels.classes)
        onnx.save(written, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {INPUT: images})[0]


def quantize(path: Path, samples: np.ndarray) -> None:
    """Quantizes an ONNX file to 8 bits, statically: the ranges of activations are calibrated.

    Dynamic quantization, which measures the ranges for each image, is tens of times slower in
    onnxruntime.
    """
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    from classifier.formats.onnx_graph import INPUT

    class Samples(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(np.split(samples.astype(np.float32), len(samples) // CALIBRATED))

        def get_next(self) -> dict[str, np.ndarray] | None:
            images = next(self.left, None)
            return None if images is None else {INPUT: images}

    quant_pre_process(path, path, skip_symbolic_shape=True)
    kinds = ["Conv", "Gemm", "MatMul"]
    quantization.quantize_static(
        path, path, Samples(), per_channel=True, op_types_to_quantize=kinds
    )


def to_litert(
    model: keras.Model, folder: ModelFolder, path: Path, precision: str, samples: np.ndarray
) -> Predict:
    """Writes a LiteRT file and returns its predictions, (N, S, S, 3) to (N, C)."""
    import keras
    import tensorflow as tf

    if keras.backend.backend() != "tensorflow":
        raise InputError("the conversion to litert needs TensorFlow: set KERAS_BACKEND=tensorflow")
    options: dict[str, object] = {}
    if precision != "float32":
        options["optimizations"] = [tf.lite.Optimize.DEFAULT]
    if precision == "half":
        options["target_spec"] = {"supported_types": [tf.float16]}
    named = path.with_name(f"{path.name}{SUFFIXES['litert']}")  # Keras writes no other suffix
    model(np.zeros((1, *model.input_shape[1:]), np.float32))
    try:
        with silent_stderr():  # TensorFlow's converter logs its steps, also from C++
            model.export(named, format="litert", verbose=False, **options)
        named.replace(path)
    finally:
        named.unlink(missing_ok=True)
    with warnings.catch_warnings():  # LiteRT will move to another package
        warnings.simplefilter("ignore")
        interpreter = tf.lite.Interpreter(str(path))

    def predict(images: np.ndarray) -> np.ndarray:
        (entry,) = interpreter.get_input_details()
        interpreter.resize_tensor_input(entry["index"], images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(entry["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])

    return predict


FORMATS = {"onnx": to_onnx, "litert": to_litert}


def samples_of(size: int, test: LabelledImages | None) -> np.ndarray:
    """Returns 200 images to compare predictions on: of the test split if it is given."""
    if test is None:
        return sample_images(size)
    return test.images[np.linspace(0, len(test.images) - 1, SAMPLES).astype(int)]


def sample_images(size: int) -> np.ndarray:
    """Returns images to compare predictions on, half of them noise and half smooth.

    Returns:
        uint8, (200, size, size, 3), always the same.
    """
    from PIL import Image

    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (SAMPLES // 2, size, size, 3), np.uint8)
    coarse = random.integers(0, 256, (SAMPLES // 2, 4, 4, 3), np.uint8)
    smooth = [np.asarray(Image.fromarray(pixels).resize((size, size))) for pixels in coarse]
    return np.stack([picture for pair in zip(smooth, noise, strict=True) for picture in pair])


def top1_of(probabilities: np.ndarray, test: LabelledImages) -> float:
    """Returns the top-1 accuracy on a split."""
    return float(np.mean(probabilities.argmax(axis=1) == test.labels))


def check_libraries(to: str) -> None:
    """Raises InputError if a library that a format needs is not installed."""
    for name in NEEDED[to]:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise InputError(
                f"the conversion to {to} needs {name}: pip install -r requirements.txt"
            ) from error


def name_of(folder: ModelFolder) -> str:
    """Returns the name of a model: that of its folder, its run or its repository."""
    path = folder.path.resolve()
    if path.parent.name == "snapshots":  # the cache of the Hub: models--user--name/snapshots/commit
        return path.parents[1].name.rpartition("--")[2]
    return path.parent.name if path.name == "model" else path.name


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line; a wrong one ends with exit status 2 and one line."""
    parser = command_line.argument_parser(
        "Convert a model to one file that ONNX Runtime or LiteRT runs, and check its answers.",
        prog="python -m classifier.convert",
    )
    parser.add_argument(
        "source", metavar="SOURCE", help="a model folder, a run folder, a Hub id or hf://user/name"
    )
    parser.add_argument("--to", required=True, choices=tuple(SUFFIXES), help="the format")
    parser.add_argument(
        "--output", metavar="FILE", help="default: the model's name, with .onnx or .tflite"
    )
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument("--half", action="store_true", help="store the weights in float16")
    weights.add_argument("--int8", action="store_true", help="store and compute in 8 bits")
    parser.add_argument(
        "--dataset",
        help="measure the top-1 before and after on its test split, and refuse to lose more than "
        "0.5 points: a Hub id, a folder, or the Toronto archive",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
