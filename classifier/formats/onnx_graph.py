"""Writes a Keras model as an ONNX graph, out of the layers that `saved_model` lets in.

Keras has an exporter of its own, which needs PyTorch and another process, fixes the batch size
where a model averages over views, and leaves the class names out. This one works from the saved
configuration, on any backend.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from classifier.errors import InputError
from classifier.model_folder.saved_model import OPERATIONS_MODULE

if TYPE_CHECKING:
    import keras
    import onnx

OPSET = 20  # the first with Gelu; onnxruntime reads it from 1.17 on
SMALL = 1024  # numbers: smaller constants are not worth storing in float16
IR_VERSION = 9  # of the same releases
INPUT, OUTPUT, CLASSES = "images", "probabilities", "classes"
TO_FIRST, TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]  # (N, H, W, C) to (N, C, H, W), and back
LOWEST = -(2**63) + 1  # as the end of a slice: up to and with the first element


def write_onnx(
    model: keras.Model, classes: Sequence[str], path: Path, *, half: bool = False
) -> None:
    """Writes a model as one ONNX file that takes raw pixels, any number of images at a time.

    Args:
        model: from (N, S, S, 3) to (N, C), of the layers that a model folder may hold.
        classes: the names of the C classes, written as JSON under the metadata key `classes`.
        path: the file.
        half: stores kernels in float16; they are computed with in float32.

    Raises:
        InputError: the model has a layer, or an option of one, that is not translated.
    """
    import onnx
    from onnx import TensorProto, helper

    graph = _Graph(half)
    result = graph.last(_model(graph, model, _Value(INPUT, 4)))
    graph.nodes.append(helper.make_node("Identity", [result], [OUTPUT]))
    pixels = ["batch", *model.input_shape[1:]]
    written = helper.make_model(
        helper.make_graph(
            graph.nodes,
            model.name,
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, pixels)],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", len(classes)])],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="keras",
    )
    name_classes(written, classes)
    onnx.checker.check_model(written, full_check=True)
    onnx.save(written, path)


def name_classes(model: onnx.ModelProto, classes: Sequence[str]) -> None:
    """Writes the class names into the metadata."""
    from onnx import helper

    helper.set_model_props(model, {CLASSES: json.dumps(list(classes), ensure_ascii=False)})


@dataclass(frozen=True)
class _Value:
    """An array between two layers.

    Attributes:
        name: in the graph.
        rank: its number of axes.
        channels_first: whether it is (N, C, H, W) in the graph where Keras has (N, H, W, C).
    """

    name: str
    rank: int
    channels_first: bool = False


class _Graph:
    """The nodes and constants written so far."""

    def __init__(self, half: bool) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._half = half
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node with one output and returns the output's name."""
        from onnx import helper

        name = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def constant(self, values: Any, kind: type = np.float32) -> str:
        """Returns the name of a constant, which is written once, however often it is used."""
        array: np.ndarray = np.ascontiguousarray(values, kind)
        key = (array.dtype.str, array.shape, hashlib.sha256(array.data).digest())
        if key not in self._known:
            self._known[key] = self._constant(array)
        return self._known[key]

    def _constant(self, array: np.ndarray) -> str:
        from onnx import TensorProto, numpy_helper

        name = f"constant_{len(self.constants)}"
        if self._half and array.ndim > 1 and array.size > SMALL and array.dtype == np.float32:
            self.constants.append(numpy_helper.from_array(array.astype(np.float16), name))
            return self.add("Cast", name, to=TensorProto.FLOAT)
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def integers(self, *values: int) -> str:
        """Adds a constant list of whole numbers."""
        return self.constant(values, np.int64)

    def first(self, value: _Value) -> str:
        """Returns an array as (N, C, H, W)."""
        if value.channels_first:
            return value.name
        return self.add("Transpose", value.name, perm=TO_FIRST)

    def last(self, value: _Value) -> str:
        """Returns an array as Keras has it."""
        if not value.channels_first:
            return value.name
        return self.add("Transpose", value.name, perm=TO_LAST)

    def affine(self, value: _Value, scale: Any, offset: Any, operators: str = "Mul Add") -> _Value:
        """Adds two operations with a constant each, a number or one for each channel."""
        name = value.name
        for operator, operand in zip(operators.split(), (scale, offset), strict=True):
            array = np.asarray(operand, np.float32).reshape(-1)
            shape = (-1, 1, 1) if value.channels_first and array.size > 1 else (-1,)
            name = self.add(operator, name, self.constant(array.reshape(shape)))
        return _Value(name, value.rank, value.channels_first)


def _model(graph: _Graph, model: keras.Model, given: _Value) -> _Value:
    """Translates a model, or one inside of another, and returns its output."""
    config = model.get_config()
    layers = config["layers"]
    if "input_layers" not in config:  # a Sequential one
        for described in layers:
            given = _apply(graph, model, described, [given])
        return given
    by_name = {described["config"]["name"]: described for described in layers}
    entry, result = (_reference(config[key]) for key in ("input_layers", "output_layers"))
    done = {entry: given}

    def value(reference: tuple[str, int]) -> _Value:
        if reference not in done:
            described = by_name[reference[0]]
            node = described["inbound_nodes"][reference[1]]
            done[reference] = _apply(graph, model, described, list(map(value, _sources(node))))
        return done[reference]

    return value(result)


def _reference(history: Any) -> tuple[str, int]:
    """Returns a layer's name and which of its calls, out of `["name", 0, 0]` in any nesting."""
    while isinstance(history[0], list):
        (history,) = history
    return history[0], history[1]


def _sources(node: dict[str, Any]) -> list[tuple[str, int]]:
    """Returns what a call of a layer takes, in order."""
    found = []
    waiting = list(node["args"])
    while waiting:
        item = waiting.pop(0)
        if isinstance(item, list):
            waiting[:0] = item
        elif isinstance(item, dict) and item.get("class_name") == "__keras_tensor__":
            found.append(_reference(item["config"]["keras_history"]))
    return found


def _apply(
    graph: _Graph, model: keras.Model, described: dict[str, Any], given: list[_Value]
) -> _Value:
    """Translates one call of a layer or an operation."""
    kind, config = described["class_name"], described["config"]
    if kind in _UNCHANGED:
        return given[0]
    if described["module"] == OPERATIONS_MODULE:
        if kind not in _OPERATIONS:
            raise _untranslated(f"the operation {kind}")
        return _OPERATIONS[kind](graph, config, given[0])
    layer = model.get_layer(config["name"])
    if kind in ("Functional", "Sequential", "Model"):
        return _model(graph, layer, given[0])
    if kind in _MERGES:
        return _merge(graph, _MERGES[kind], kind == "Average", given)
    if kind == "Concatenate":
        name = graph.add("Concat", *map(graph.last, given), axis=layer.axis)
        return _Value(name, given[0].rank)
    if kind not in _LAYERS:
        raise _untranslated(kind)
    if config.get("data_format") == "channels_first":
        raise _untranslated(f"{kind} with its channels first")
    return _LAYERS[kind](graph, layer, given[0])


def _untranslated(what: str) -> InputError:
    return InputError(f"the model uses {what}, which is not translated to ONNX: convert to litert")


def _dense(graph: _Graph, layer: Any, given: _Value) -> _Value:
    name = graph.add("MatMul", graph.last(given), graph.constant(layer.kernel))
    return _activated(graph, layer, _biased(graph, layer, _Value(name, given.rank)))


def _convolution(graph: _Graph, layer: Any, given: _Value) -> _Value:
    kernel = np.asarray(layer.kernel).transpose(3, 2, 0, 1)  # to (outputs, inputs, height, width)
    done = _convolved(graph, layer, given, kernel, layer.groups)
    return _activated(graph, layer, _biased(graph, layer, done))


def _depthwise(graph: _Graph, layer: Any, given: _Value) -> _Value:
    done = _convolved(graph, layer, given, *_by_channel(layer.kernel))
    return _activated(graph, layer, _biased(graph, layer, done))


def _separable(graph: _Graph, layer: Any, given: _Value) -> _Value:
    inner = _convolved(graph, layer, given, *_by_channel(layer.depthwise_kernel))
    kernel = graph.constant(np.asarray(layer.pointwise_kernel).transpose(3, 2, 0, 1))
    done = _Value(graph.add("Conv", graph.first(inner), kernel), 4, channels_first=True)
    return _activated(graph, layer, _biased(graph, layer, done))


def _by_channel(kernel: Any) -> tuple[np.ndarray, int]:
    """Returns a depthwise kernel as one with as many groups as there are channels."""
    height, width, channels, multiplier = kernel.shape
    moved = np.asarray(kernel).transpose(2, 3, 0, 1)
    return moved.reshape(channels * multiplier, 1, height, width), channels


def _convolved(graph: _Graph, layer: Any, given: _Value, kernel: np.ndarray, groups: int) -> _Value:
    padding: dict[str, Any] = {"auto_pad": _PADDING[layer.padding]}
    if layer.padding == "same" and max(layer.dilation_rate) > 1:  # with strides of 1, in Keras
        sides = zip(kernel.shape[2:], layer.dilation_rate, strict=True)
        total = [(side - 1) * dilation for side, dilation in sides]
        padding = {"pads": [*(item // 2 for item in total), *(-(-item // 2) for item in total)]}
    name = graph.add(
        "Conv",
        graph.first(given),
        graph.constant(kernel),
        group=groups,
        strides=layer.strides,
        dilations=layer.dilation_rate,
        **padding,
    )
    return _Value(name, 4, channels_first=True)


def _biased(graph: _Graph, layer: Any, given: _Value) -> _Value:
    if not layer.use_bias:
        return given
    bias = np.asarray(layer.bias)
    shape = (-1, 1, 1) if given.channels_first else (-1,)
    name = graph.add("Add", given.name, graph.constant(bias.reshape(shape)))
    return _Value(name, given.rank, given.channels_first)


def _activated(graph: _Graph, layer: Any, given: _Value) -> _Value:
    function = getattr(layer.activation, "__name__", None)
    if function == "linear":
        return given
    if function in ("softmax", "log_softmax"):
        operator = "Softmax" if function == "softmax" else "LogSoftmax"
        return _Value(graph.add(operator, graph.last(given), axis=-1), given.rank)
    if function in ("silu", "swish"):
        name = graph.add("Mul", given.name, graph.add("Sigmoid", given.name))
    elif function == "relu6":
        name = graph.add("Clip", given.name, graph.constant(0), graph.constant(6))
    elif function in _ACTIVATIONS:
        operator, attributes = _ACTIVATIONS[function]
        name = graph.add(operator, given.name, **attributes)
    else:
        raise _untranslated(f"the function {function}")
    return _Value(name, given.rank, given.channels_first)


def _relu(graph: _Graph, layer: Any, given: _Value) -> _Value:
    if layer.threshold:
        raise _untranslated("ReLU with a threshold")
    name = graph.add("LeakyRelu", given.name, alpha=float(layer.negative_slope))
    if layer.max_value is not None:
        name = graph.add("Min", name, graph.constant(layer.max_value))
    return _Value(name, given.rank, given.channels_first)


def _softmax(graph: _Graph, layer: Any, given: _Value) -> _Value:
    return _Value(graph.add("Softmax", graph.last(given), axis=layer.axis), given.rank)


def _one_to_one(operator: str, **attributes: str) -> Callable[[_Graph, Any, _Value], _Value]:
    """Translates a layer whose attributes have other names in ONNX."""

    def translate(graph: _Graph, layer: Any, given: _Value) -> _Value:
        values = {name: float(getattr(layer, ours)) for name, ours in attributes.items()}
        name = graph.add(operator, given.name, **values)
        return _Value(name, given.rank, given.channels_first)

    return translate


def _pool(operator: str) -> Callable[[_Graph, Any, _Value], _Value]:
    def translate(graph: _Graph, layer: Any, given: _Value) -> _Value:
        name = graph.add(
            operator,
            graph.first(given),
            kernel_shape=layer.pool_size,
            strides=layer.strides,
            auto_pad=_PADDING[layer.padding],
        )
        return _Value(name, 4, channels_first=True)

    return translate


def _global_pool(operator: str) -> Callable[[_Graph, Any, _Value], _Value]:
    def translate(graph: _Graph, layer: Any, given: _Value) -> _Value:
        name = graph.add(operator, graph.first(given))
        if layer.keepdims:
            return _Value(name, 4, channels_first=True)
        return _Value(graph.add("Flatten", name), 2)

    return translate


def _batch_normalization(graph: _Graph, layer: Any, given: _Value) -> _Value:
    _check_last_axis(layer.axis, given, "BatchNormalization")
    scale = 1 / np.sqrt(np.asarray(layer.moving_variance, np.float64) + layer.epsilon)
    scale *= np.asarray(layer.gamma) if layer.scale else 1
    offset = -np.asarray(layer.moving_mean, np.float64) * scale
    return graph.affine(given, scale, offset + (np.asarray(layer.beta) if layer.center else 0))


def _layer_normalization(graph: _Graph, layer: Any, given: _Value) -> _Value:
    axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
    _check_last_axis(axis, given, "LayerNormalization")
    if layer.rms_scaling:
        raise _untranslated("LayerNormalization with rms_scaling")
    gamma = layer.gamma if layer.scale else np.ones(layer.beta.shape)
    operands = [graph.constant(gamma), *([graph.constant(layer.beta)] if layer.center else [])]
    name = graph.add(
        "LayerNormalization", graph.last(given), *operands, axis=-1, epsilon=layer.epsilon
    )
    return _Value(name, given.rank)


def _normalization(graph: _Graph, layer: Any, given: _Value) -> _Value:
    mean = np.asarray(layer.mean, np.float64)
    deviation = np.maximum(np.sqrt(np.asarray(layer.variance, np.float64)), 1e-7)
    if layer.invert or mean.size not in (1, mean.shape[-1]):
        raise _untranslated("Normalization other than by channel")
    return graph.affine(given, mean, deviation, "Sub Div")


def _rescaling(graph: _Graph, layer: Any, given: _Value) -> _Value:
    return graph.affine(given, layer.scale, layer.offset)


def _resizing(graph: _Graph, layer: Any, given: _Value) -> _Value:
    plain = not (layer.crop_to_aspect_ratio or layer.pad_to_aspect_ratio or layer.antialias)
    if layer.interpolation not in _RESIZING or not plain:
        raise _untranslated(f"Resizing with interpolation {layer.interpolation!r}, or in shape")
    # In Keras's order and of all axes: onnxruntime 1.32 fails where it moves a transposition past
    # a Resize of some.
    name = graph.last(given)
    images, channels = graph.add("Shape", name, end=1), graph.add("Shape", name, start=3)
    sizes = graph.add("Concat", images, graph.integers(layer.height, layer.width), channels, axis=0)
    return _Value(graph.add("Resize", name, "", "", sizes, **_RESIZING[layer.interpolation]), 4)


def _upsampling(graph: _Graph, layer: Any, given: _Value) -> _Value:
    if layer.interpolation not in _RESIZING:
        raise _untranslated(f"UpSampling2D with interpolation {layer.interpolation!r}")
    operands = (graph.last(given), "", graph.constant((1, *layer.size, 1)))
    return _Value(graph.add("Resize", *operands, **_RESIZING[layer.interpolation]), 4)


def _cropping(graph: _Graph, layer: Any, given: _Value) -> _Value:
    (top, bottom), (left, right) = layer.cropping
    ends = [-margin if margin else 2**62 for margin in (bottom, right)]
    operands = (graph.integers(top, left), graph.integers(*ends), graph.integers(1, 2))
    return _Value(graph.add("Slice", graph.last(given), *operands), 4)


def _padding(graph: _Graph, layer: Any, given: _Value) -> _Value:
    (top, bottom), (left, right) = layer.padding
    widths = graph.integers(top, left, bottom, right)
    name = graph.add("Pad", graph.last(given), widths, "", graph.integers(1, 2))
    return _Value(name, 4)


def _flatten(graph: _Graph, layer: Any, given: _Value) -> _Value:
    return _Value(graph.add("Flatten", graph.last(given)), 2)


def _reshape_layer(graph: _Graph, layer: Any, given: _Value) -> _Value:
    shape = graph.integers(0, *layer.target_shape)  # 0: as many images as came
    return _Value(graph.add("Reshape", graph.last(given), shape), 1 + len(layer.target_shape))


def _activation_layer(graph: _Graph, layer: Any, given: _Value) -> _Value:
    return _activated(graph, layer, given)


def _check_last_axis(axis: int, given: _Value, what: str) -> None:
    if axis not in (-1, given.rank - 1):
        raise _untranslated(f"{what} over another axis than the last")


def _merge(graph: _Graph, operator: str, average: bool, given: list[_Value]) -> _Value:
    if len({value.rank for value in given}) > 1:
        raise _untranslated("a sum or product of arrays of different ranks")
    alike = all(value.channels_first for value in given)
    names = [value.name if alike else graph.last(value) for value in given]
    name = names[0]
    for other in names[1:]:
        name = graph.add(operator, name, other)
    if average:
        name = graph.add("Div", name, graph.constant(len(names)))
    return _Value(name, given[0].rank, alike)


def _flip(graph: _Graph, config: dict[str, Any], given: _Value) -> _Value:
    axis = config["axis"]
    axes = range(given.rank) if axis is None else [axis] if isinstance(axis, int) else axis
    count = len(axes)
    lists = ([-1] * count, [LOWEST] * count, list(axes), [-1] * count)
    operands = [graph.integers(*values) for values in lists]
    return _Value(graph.add("Slice", graph.last(given), *operands), given.rank)


def _reshape(graph: _Graph, config: dict[str, Any], given: _Value) -> _Value:
    shape = [-1 if size is None else size for size in config["newshape"]]
    return _Value(graph.add("Reshape", graph.last(given), graph.integers(*shape)), len(shape))


def _mean(graph: _Graph, config: dict[str, Any], given: _Value) -> _Value:
    axis, keep = config["axis"], config["keepdims"]
    axes = range(given.rank) if axis is None else [axis] if isinstance(axis, int) else axis
    operands = (graph.last(given), graph.integers(*axes))
    name = graph.add("ReduceMean", *operands, keepdims=int(keep))
    return _Value(name, given.rank if keep else given.rank - len(axes))


_PADDING = {"same": "SAME_UPPER", "valid": "VALID"}
_RESIZING: dict[str, dict[str, Any]] = {
    "bilinear": {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
    "nearest": {
        "mode": "nearest",
        "coordinate_transformation_mode": "half_pixel",
        "nearest_mode": "round_prefer_ceil",
    },
}
_ACTIVATIONS: dict[str, tuple[str, dict[str, float]]] = {
    "elu": ("Elu", {}),
    "exponential": ("Exp", {}),
    "gelu": ("Gelu", {}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "hard_silu": ("HardSwish", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.2}),
    "mish": ("Mish", {}),
    "relu": ("Relu", {}),
    "selu": ("Selu", {}),
    "sigmoid": ("Sigmoid", {}),
    "softplus": ("Softplus", {}),
    "softsign": ("Softsign", {}),
    "tanh": ("Tanh", {}),
}
# What does something while training only, or nothing.
_UNCHANGED = {"InputLayer", "Identity", "Dropout", "SpatialDropout2D", "GaussianNoise"}
_UNCHANGED |= {"RandomFlip", "RandomTranslation", "RandomRotation", "RandomZoom"}
_UNCHANGED |= {"RandomContrast", "RandomBrightness"}
_MERGES = {"Add": "Add", "Subtract": "Sub", "Multiply": "Mul", "Average": "Add", "Maximum": "Max"}
_OPERATIONS = {"Flip": _flip, "Reshape": _reshape, "Mean": _mean}
_LAYERS: dict[str, Callable[[_Graph, Any, _Value], _Value]] = {
    "Activation": _activation_layer,
    "AveragePooling2D": _pool("AveragePool"),
    "BatchNormalization": _batch_normalization,
    "Conv2D": _convolution,
    "Cropping2D": _cropping,
    "Dense": _dense,
    "DepthwiseConv2D": _depthwise,
    "ELU": _one_to_one("Elu", alpha="alpha"),
    "Flatten": _flatten,
    "GlobalAveragePooling2D": _global_pool("GlobalAveragePool"),
    "GlobalMaxPooling2D": _global_pool("GlobalMaxPool"),
    "LayerNormalization": _layer_normalization,
    "LeakyReLU": _one_to_one("LeakyRelu", alpha="negative_slope"),
    "MaxPooling2D": _pool("MaxPool"),
    "Normalization": _normalization,
    "ReLU": _relu,
    "Rescaling": _rescaling,
    "Reshape": _reshape_layer,
    "Resizing": _resizing,
    "SeparableConv2D": _separable,
    "Softmax": _softmax,
    "UpSampling2D": _upsampling,
    "ZeroPadding2D": _padding,
}
