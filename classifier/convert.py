"""Converts a model to a format that other programs run, and checks that it answers as before.

python -m classifier.convert pretrained/cnn --to onnx
python -m classifier.convert user/name --to litert --int8 --dataset path/to/images
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from classifier import command_line
from classifier.environment import silent_stderr
from classifier.errors import ClassifierError, InputError
from classifier.files import write_atomically, write_text

if TYPE_CHECKING:
    import keras

    from classifier.data.split import Split
    from classifier.model_folder.folder import ModelFolder

SUFFIXES = {"onnx": ".onnx", "litert": ".tflite"}
NEEDED = {"onnx": ("onnx", "onnxruntime"), "litert": ("tensorflow",)}
SAMPLES = 200  # images that the converted model must answer as Keras does
MAX_DIFFERENCE = 1e-4  # in the probability of any class, computed in float32
MAX_DIFFERENCE_HALF = 1e-2  # with kernels of 11 bits
MAX_TOP1_LOSS = 0.005  # on the test split, where it is at hand
BATCH = 100
CALIBRATED = 20  # images at a time

Answer = Callable[[np.ndarray], np.ndarray]


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
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow announces itself at length
    from classifier.data.loading import load_split
    from classifier.hub import sources

    folder = sources.find(options.source)
    path = Path(options.output or f"{name_of(folder)}{SUFFIXES[options.to]}")
    check_output(path, options.to)
    test = None
    if options.dataset is not None:
        test = load_split(options.dataset, "test", size=folder.image_size)
        if test.classes != folder.labels.classes:
            raise InputError(f"--dataset {options.dataset} has other classes than the model")
    precision = "half" if options.half else "int8" if options.int8 else "float32"
    converted = convert(folder, options.to, path, precision=precision, test=test)
    print(converted)
    if test is None and precision != "float32":
        print("What it costs in top-1 was not measured: name the data set with --dataset")


def convert(
    folder: ModelFolder,
    to: str,
    path: Path,
    *,
    precision: str = "float32",
    test: Split | None = None,
) -> Converted:
    """Writes a model folder's model as one file, once it has answered as Keras does.

    Args:
        folder: what to convert; it is checked as the app checks it.
        to: "onnx" or "litert".
        path: the file; beside a LiteRT file lie the class names, one a line, as `.txt`.
        precision: of the weights: "float32", "half" or "int8".
        test: images that the top-1 before and after is measured on.

    Raises:
        InputError: the folder is no model that may be loaded, or a layer cannot be translated.
        ClassifierError: the converted model answers differently; nothing is written.
    """
    from classifier.prediction.classifier import Classifier, answer_in_batches

    model = folder.load_model()
    classifier = Classifier(model, folder)
    size, classes = classifier.image_size, len(classifier.labels.classes)
    samples = samples_of(size, test)
    difference, top1 = 0.0, None

    def answer_all(answer: Answer, images: np.ndarray) -> np.ndarray:
        return answer_in_batches(answer, images, size, classes, BATCH)

    def write(temporary: Path) -> None:
        nonlocal difference, top1
        answer = FORMATS[to](model, folder, temporary, precision, samples)
        found = answer_all(answer, samples)
        difference = float(np.abs(found - classifier.probabilities(samples)).max())
        check_difference(difference, precision)
        if test is not None:
            before = top1_of(classifier.probabilities(test.images), test)
            top1 = before, top1_of(answer_all(answer, test.images), test)
            check_top1(*top1)

    write_atomically(path, write)
    if to == "litert":
        names = "".join(f"{name}\n" for name in classifier.labels.classes)
        write_text(path.with_suffix(".txt"), names)
    return Converted(path, difference, top1)


def to_onnx(
    model: keras.Model,
    folder: ModelFolder,
    path: Path,
    precision: str,
    samples: np.ndarray,
) -> Answer:
    """Writes an ONNX file and returns what answers by it, (N, S, S, 3) to (N, C)."""
    import onnx
    import onnxruntime

    from classifier.formats.onnx_graph import name_classes, write_onnx

    onnxruntime.set_default_logger_severity(3)  # errors: what it optimises is no news
    write_onnx(folder, path, half=precision == "half")
    if precision == "int8":
        quantize(path, samples)
        written = onnx.load(path)
        name_classes(written, folder.labels.classes)
        onnx.save(written, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    return lambda images: session.run(None, {entry.name: images.astype(np.float32)})[0]


def quantize(path: Path, samples: np.ndarray) -> None:
    """Makes an ONNX file one of 8 bits, with the ranges that sample images have between layers.

    Convolutions and products are computed in 8 bits where the ranges are known beforehand; where
    they are measured anew for each image, onnxruntime takes tens of times as long.
    """
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Samples(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(np.split(samples.astype(np.float32), len(samples) // CALIBRATED))

        def get_next(self) -> dict[str, np.ndarray] | None:
            images = next(self.left, None)
            return None if images is None else {"images": images}

    quant_pre_process(path, path, skip_symbolic_shape=True)
    quantization.quantize_static(
        path,
        path,
        Samples(),
        per_channel=True,
        op_types_to_quantize=["Conv", "Gemm", "MatMul"],
    )


def to_litert(
    model: keras.Model,
    folder: ModelFolder,
    path: Path,
    precision: str,
    samples: np.ndarray,
) -> Answer:
    """Writes a LiteRT file and returns what answers by it, (N, S, S, 3) to (N, C)."""
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
    with warnings.catch_warnings():  # that LiteRT is to have a package of its own
        warnings.simplefilter("ignore")
        interpreter = tf.lite.Interpreter(str(path))

    def answer(images: np.ndarray) -> np.ndarray:
        (entry,) = interpreter.get_input_details()
        interpreter.resize_tensor_input(entry["index"], images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(entry["index"], images.astype(np.float32))
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])

    return answer


FORMATS = {"onnx": to_onnx, "litert": to_litert}


def samples_of(size: int, test: Split | None) -> np.ndarray:
    """Returns 200 images to compare answers on: of the test split if it is at hand."""
    if test is None:
        return sample_images(size)
    return test.images[np.linspace(0, len(test.images) - 1, SAMPLES).astype(int)]


def sample_images(size: int) -> np.ndarray:
    """Returns images to compare answers on, half of them noise and half smooth.

    Returns:
        uint8, (200, size, size, 3), always the same.
    """
    from PIL import Image

    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (SAMPLES // 2, size, size, 3), np.uint8)
    coarse = random.integers(0, 256, (SAMPLES // 2, 4, 4, 3), np.uint8)
    smooth = [np.asarray(Image.fromarray(pixels).resize((size, size))) for pixels in coarse]
    return np.stack([picture for pair in zip(smooth, noise, strict=True) for picture in pair])


def top1_of(probabilities: np.ndarray, test: Split) -> float:
    """Returns the share of right answers."""
    return float(np.mean(probabilities.argmax(axis=1) == test.labels))


def check_difference(difference: float, precision: str) -> None:
    """Refuses a file that answers otherwise than Keras; int8 is judged by its top-1 alone."""
    limits = {"float32": MAX_DIFFERENCE, "half": MAX_DIFFERENCE_HALF, "int8": 1.0}
    if not difference <= limits[precision]:  # also where it is no number
        raise ClassifierError(
            f"the converted model differs from Keras by {difference:.1e} in a probability, more "
            f"than {limits[precision]:.0e}: nothing is written"
        )


def check_top1(before: float, after: float) -> None:
    """Refuses a file that loses too much."""
    if before - after > MAX_TOP1_LOSS:
        raise ClassifierError(
            f"the converted model has a test top-1 of {after:.2%}, with Keras it is {before:.2%}: "
            f"more than {100 * MAX_TOP1_LOSS} points are lost, and nothing is written"
        )


def check_libraries(to: str) -> None:
    """Refuses what cannot be done with the libraries at hand."""
    for name in NEEDED[to]:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise InputError(
                f"the conversion to {to} needs {name}: pip install -r requirements.txt"
            ) from error


def check_output(path: Path, to: str) -> None:
    """Refuses a file that cannot be written."""
    if path.suffix != SUFFIXES[to]:
        raise InputError(f"--output {path}: name a file that ends with {SUFFIXES[to]}")
    if path.exists() and not path.is_file():
        raise InputError(f"--output {path} is no file: name one that may be written")
    if not path.parent.is_dir():
        raise InputError(f"--output {path}: there is no folder {path.parent}")


def name_of(folder: ModelFolder) -> str:
    """Returns what to call the file of a model: as its folder, its run or its repository."""
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
