"""Exports a model to ONNX or LiteRT, and verifies that its predictions are unchanged.

python -m classifier.convert pretrained/cnn --to onnx
python -m classifier.convert user/name --to litert --int8 --dataset path/to/images
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from classifier import command_line
from classifier.data.source import add_data_arguments
from classifier.environment import import_onnxruntime, silent_stderr
from classifier.errors import ClassifierError, InputError
from classifier.files import write_atomically, write_text

if TYPE_CHECKING:
    import keras

    from classifier.data.labelled_images import LabelledImages
    from classifier.model_folder.folder import ModelFolder
    from classifier.prediction.classifier import Classifier, Predict

SAMPLES = 200  # images on which the predictions are compared, and int8 is calibrated
# In the probability of any class, by the precision of the weights; int8 is judged by its top-1.
MAX_DIFFERENCE = {"float32": 1e-4, "half": 1e-2, "int8": 1.0}
MAX_TOP1_LOSS = 0.005  # on the test split, if it is given
NORMAL_95 = 1.96  # standard errors on each side of a 95% interval
BATCH = 100
CALIBRATED = 20  # images per batch of the calibration


def main(arguments: list[str]) -> None:
    """Reads the command line and converts."""
    options = parse(arguments)
    from classifier.data.loading import load_split, source_of
    from classifier.hub import sources

    found = sources.locate(options.source)
    folder, suffix = found.folder, FORMATS[options.to].suffix
    path = Path(options.output or f"{found.name.rpartition('/')[2]}{suffix}")
    if path.suffix != suffix:
        raise InputError(f"--output {path}: name a file that ends with {suffix}")
    command_line.check_output(path)
    precision = "half" if options.half else "int8" if options.int8 else "float32"
    test = calibration = None
    if options.dataset is not None:
        trained_on = folder.training.get("dataset", {})
        data = source_of(options, trained_on, size=folder.image_size)
        test = load_split(data, "test", size=folder.image_size)
        test = test.to_classes(folder.labels.classes)
        if precision == "int8":
            calibration = samples_of(load_split(data, "train", size=folder.image_size).images)
    convert(folder, options.to, path, precision=precision, test=test, calibration=calibration)
    if test is None and precision != "float32":
        print("What it costs in top-1 was not measured: name the data set with --dataset")


def convert(
    folder: ModelFolder,
    to: str,
    path: Path,
    *,
    precision: str = "float32",
    test: LabelledImages | None = None,
    calibration: np.ndarray | None = None,
) -> float:
    """Converts a model to one file, which is written only if it predicts as Keras does.

    Prints its size and what the conversion costs.

    Args:
        folder: the model folder; it is checked first.
        to: a key of `FORMATS`.
        path: the file; the class names are written beside a LiteRT file, one a line, as `.txt`.
        precision: of the weights: "float32", "half" or "int8".
        test: images on which the top-1 is measured before and after.
        calibration: training images, uint8, (N, S, S, 3), by which int8 chooses the ranges of
            activations; synthetic ones by default.

    Returns:
        The largest difference in the probability of any class, over the samples.

    Raises:
        InputError: the model may not be loaded, a layer cannot be translated, or the file of class
            names exists and holds others.
        ClassifierError: the predictions differ; nothing is written.
    """
    from classifier.prediction.classifier import Classifier, keras_predict

    form = FORMATS[to]
    names = "".join(f"{name}\n" for name in folder.labels.classes)
    names_path = path.with_suffix(".txt")
    if form.names_beside and names_path.exists() and names_path.read_bytes() != names.encode():
        raise InputError(f"{names_path} exists and holds no class names of this model: move it")
    model = folder.load_model()
    original = Classifier(keras_predict(model), folder)
    synthetic = sample_images(folder.image_size)
    samples = synthetic if test is None else samples_of(test.images)
    difference = 0.0

    def write(temporary: Path) -> None:
        nonlocal difference
        calibrated = synthetic if calibration is None else calibration
        predict = form.write(model, folder, temporary, precision, calibrated)
        converted = Classifier(predict, folder, BATCH)
        changes = converted.probabilities(samples) - original.probabilities(samples)
        difference = float(np.abs(changes).max())
        if not difference <= MAX_DIFFERENCE[precision]:  # also where it is no number
            raise ClassifierError(
                f"the converted model differs from Keras by {difference:.1e} in a probability, "
                f"more than {MAX_DIFFERENCE[precision]:.0e}: nothing is written"
            )
        if test is not None:
            told, least = compare_top1(is_right(original, test), is_right(converted, test))
            if least > MAX_TOP1_LOSS:
                raise ClassifierError(
                    f"test top-1 {told}; more than {100 * MAX_TOP1_LOSS} points are refused, "
                    "and nothing is written"
                )
            print(f"Test top-1: {told}")

    write_atomically(path, write)
    if form.names_beside:
        write_text(names_path, names)
    print(f"Written to {path}: {path.stat().st_size / 10**6:.1f} MB")
    print(f"Largest difference from Keras in a probability: {difference:.1e}")
    return difference


def is_right(classifier: Classifier, test: LabelledImages) -> np.ndarray:
    """Returns for each image of a split whether it is classified correctly, bool, (N,)."""
    return classifier.probabilities(test.images).argmax(axis=1) == test.labels


def compare_top1(before: np.ndarray, after: np.ndarray) -> tuple[str, float]:
    """Compares which of N images are classified correctly, two arrays of bool, (N,).

    Returns a sentence with the 95% interval of the loss, for paired answers, and its lower end.
    """
    changes = before.astype(int) - after.astype(int)
    loss, error = changes.mean(), NORMAL_95 * changes.std() / len(changes) ** 0.5
    told = (
        f"{before.mean():.2%} with Keras, {after.mean():.2%} converted: {100 * loss:.2f} points "
        f"lost (95% interval {100 * (loss - error):.2f} to {100 * (loss + error):.2f})"
    )
    return told, float(loss - error)


def to_onnx(
    model: keras.Model, folder: ModelFolder, path: Path, precision: str, calibration: np.ndarray
) -> Predict:
    """Writes an ONNX file and returns its predictions, (N, S, S, 3) to (N, C)."""
    import onnx

    from classifier.formats.onnx_graph import INPUT, name_classes, write_onnx

    onnxruntime = import_onnxruntime()
    write_onnx(folder, path, half=precision == "half")
    if precision == "int8":
        quantize(path, calibration)
        written = onnx.load(path)
        name_classes(written, folder.labels.classes)
        onnx.save(written, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {INPUT: images})[0]


def quantize(path: Path, images: np.ndarray) -> None:
    """Quantizes an ONNX file to 8 bits, statically: the ranges of activations are those of images.

    Dynamic quantization, which measures the ranges for each image, is tens of times slower in
    onnxruntime.
    """
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    from classifier.formats.onnx_graph import INPUT

    parts = np.array_split(images.astype(np.float32), -(-len(images) // CALIBRATED))
    batches = iter([{INPUT: part} for part in parts])

    class Samples(quantization.CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(batches, None)

    quant_pre_process(path, path, skip_symbolic_shape=True)
    kinds = ["Conv", "Gemm", "MatMul"]
    quantization.quantize_static(
        path, path, Samples(), per_channel=True, op_types_to_quantize=kinds
    )


def to_litert(
    model: keras.Model, folder: ModelFolder, path: Path, precision: str, calibration: np.ndarray
) -> Predict:
    """Writes a LiteRT file and returns its predictions, (N, S, S, 3) to (N, C).

    With "int8" the weights have 8 bits and LiteRT chooses the ranges of activations as it runs
    (dynamic range): nothing is calibrated.
    """
    import keras
    import tensorflow as tf

    if keras.backend.backend() != "tensorflow":
        raise InputError("the conversion to litert needs TensorFlow: set KERAS_BACKEND=tensorflow")
    options: dict[str, object] = {}
    if precision != "float32":
        options["optimizations"] = [tf.lite.Optimize.DEFAULT]
    if precision == "half":
        options["target_spec"] = {"supported_types": [tf.float16]}
    model(np.zeros((1, *model.input_shape[1:]), np.float32))
    with TemporaryDirectory(prefix=".", dir=path.parent) as place:
        named = Path(place, "model.tflite")  # Keras writes no other suffix
        with silent_stderr():  # TensorFlow's converter logs its steps, also from C++
            model.export(named, format="litert", verbose=False, **options)
        named.replace(path)
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


class Format(NamedTuple):
    """An export format.

    Attributes:
        write: takes a Keras model, its folder, the path, the precision of the weights and images to
            calibrate with; writes the file and returns its predictions.
        names_beside: whether the class names are written to a text file; else they are in it.
    """

    title: str
    suffix: str
    write: Callable[[keras.Model, ModelFolder, Path, str, np.ndarray], Predict]
    names_beside: bool = False


FORMATS = {
    "onnx": Format("ONNX", ".onnx", to_onnx),
    "litert": Format("LiteRT", ".tflite", to_litert, names_beside=True),
}


def samples_of(images: np.ndarray) -> np.ndarray:
    """Returns up to 200 of the images of a split, spread over all of it."""
    chosen = np.linspace(0, len(images) - 1, min(SAMPLES, len(images))).astype(int)
    return images[chosen]


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


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line; a wrong one ends with exit status 2 and one line."""
    parser = command_line.argument_parser(
        "Convert a model to one file that ONNX Runtime or LiteRT runs, and check its answers. With "
        "--dataset, the top-1 is measured before and after on the test split, and a file that "
        f"loses more than {100 * MAX_TOP1_LOSS} points is refused.",
        prog="python -m classifier.convert",
    )
    parser.add_argument(
        "source", metavar="SOURCE", help="a model folder, a run folder, a Hub id or hf://user/name"
    )
    parser.add_argument("--to", required=True, choices=tuple(FORMATS), help="the format")
    parser.add_argument(
        "--output",
        metavar="FILE",
        help=f"default: the model's name, with {' or '.join(f.suffix for f in FORMATS.values())}",
    )
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument("--half", action="store_true", help="store the weights in float16")
    weights.add_argument(
        "--int8",
        action="store_true",
        help="store the weights in 8 bits; ONNX is calibrated on training images of --dataset, "
        "LiteRT chooses the ranges of activations as it runs",
    )
    add_data_arguments(parser, optional=True)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
