"""Writes a saved Keras model as an ONNX graph, without Keras.

The layers and their options are read from `config.json`, the weights from `model.weights.h5`, where
Keras numbers the layers of each class in their order. Arrays between two layers have Keras's order
of axes, (N, H, W, C); ONNX Runtime removes the transpositions around convolutions when it loads a
graph.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from classifier.errors import InputError
from classifier.model_folder.folder import WEIGHTS, ModelFolder
from classifier.model_folder.saved_model import MAX_ELEMENTS, NEW_DEFAULTS, OPERATIONS_MODULE

if TYPE_CHECKING:
    import h5py
    import onnx

OPSET = 20  # the first with Gelu; onnxruntime reads it from 1.17 on
IR_VERSION = 9  # of the same releases
SMALL = 1024  # numbers: smaller constants are not worth storing in float16
INPUT, OUTPUT, CLASSES = "images", "probabilities", "classes"
TO_FIRST, TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]  # (N, H, W, C) to (N, C, H, W), and back
LOWEST = -(2**63) + 1  # the end of a slice that includes the first element

Translate = Callable[..., str]  # takes the graph, the layer and the names of its inputs


def write_onnx(folder: ModelFolder, path: Path, *, half: bool = False) -> None:
    """Writes a model as one ONNX file that takes raw pixels, any number of images at a time.

    Args:
        folder: a model folder that `check` accepts; its class names are written as JSON under the
            metadata key `classes`.
        path: the file.
        half: stores kernels in float16; the computation is in float32.

    Raises:
        InputError: the model has a layer, or an option of one, that is not translated.
    """
    import onnx

    model, weights = translate(folder, half=half)
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(onnx.numpy_helper.from_array(weights[tensor.name], tensor.name))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def translate(
    folder: ModelFolder, *, half: bool = False
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """Returns a model as `write_onnx` would write it, and its large constants, by name, beside it.

    Raises:
        InputError: as `write_onnx`.
    """
    import h5py
    import onnx
    from onnx import TensorProto, helper

    config, classes, size = folder.config["config"], folder.labels.classes, folder.image_size
    graph = _Graph(half)
    graph.ranks[INPUT] = 4
    with h5py.File(folder.path / WEIGHTS, "r") as weights:
        result = _model(graph, config, weights, INPUT)
    graph.nodes.append(helper.make_node("Identity", [result], [OUTPUT]))
    images = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [1, size, size, 3])
    answer = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [1, len(classes)])
    model = helper.make_model(
        helper.make_graph(graph.nodes, config["name"], [images], [answer], graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="keras",
    )
    _check_shapes(onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    name_classes(model, classes)
    return model, graph.weights


def name_classes(model: onnx.ModelProto, classes: Sequence[str]) -> None:
    """Writes the class names into the metadata."""
    from onnx import helper

    helper.set_model_props(model, {CLASSES: json.dumps(list(classes), ensure_ascii=False)})


def _check_shapes(model: onnx.ModelProto) -> None:
    """Raises InputError for an array, of one image, that is too large or of an unknown shape."""
    for value in model.graph.value_info:
        shape = [size.dim_value for size in value.type.tensor_type.shape.dim]
        if any(size < 1 for size in shape) or math.prod(shape[1:]) > MAX_ELEMENTS:
            raise InputError(f"the model works on arrays of shape {shape}: larger than is allowed")


class _Graph:
    """The nodes and constants written so far.

    Attributes:
        nodes: in the order of computation.
        constants: the initializers; those of more than `SMALL` numbers have no content.
        weights: the content of the large constants, by name.
        ranks: the number of axes of each array between two layers, by name.
        layers: the options and weights of the layers, by their group in the file of weights.
    """

    def __init__(self, half: bool) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self.ranks: dict[str, int] = {}
        self.layers: dict[str, SimpleNamespace] = {}
        self._half = half
        self._written: dict[int, tuple[np.ndarray, str]] = {}  # large constants by identity

    def add(self, operator: str, *inputs: str, rank: int | None = None, **attributes: Any) -> str:
        """Adds a node and returns its output, which by default has the rank of the first input."""
        from onnx import helper

        name = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        self.ranks[name] = self.ranks.get(inputs[0], 0) if rank is None else rank
        return name

    def add_channels_first(self, operator: str, given: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node that takes and returns (N, C, H, W)."""
        first = self.add("Transpose", given, perm=TO_FIRST)
        return self.add("Transpose", self.add(operator, first, *inputs, **attributes), perm=TO_LAST)

    def constant(self, values: Any, kind: type = np.float32) -> str:
        """Returns the name of a constant; a layer's kernel is written once for all its calls."""
        from onnx import TensorProto, helper, numpy_helper

        array: np.ndarray = np.ascontiguousarray(values, kind)
        if id(array) in self._written:
            return self._written[id(array)][1]
        name = f"constant_{len(self.constants)}"
        if array.size <= SMALL:
            self.constants.append(numpy_helper.from_array(array, name))
            return name
        half = self._half and array.ndim > 1 and kind is np.float32
        stored = array.astype(np.float16) if half else array
        tensor = TensorProto(name=name, dims=array.shape, data_location=TensorProto.EXTERNAL)
        tensor.data_type = helper.np_dtype_to_tensor_dtype(stored.dtype)
        tensor.external_data.add(key="location", value="weights")  # in `self.weights`
        self.constants.append(tensor)
        self.weights[name] = stored
        result = self.add("Cast", name, to=TensorProto.FLOAT) if half else name
        self._written[id(array)] = array, result
        return result

    def integers(self, *values: int) -> str:
        """Adds a constant list of integers."""
        return self.constant(values, np.int64)


def _model(graph: _Graph, config: dict[str, Any], weights: h5py.Group, given: str) -> str:
    """Translates a model, which may be nested, and returns its output."""
    layers = list(zip(config["layers"], _groups(config["layers"]), strict=True))
    if "input_layers" not in config:  # a Sequential one
        for layer, group in layers:
            given = _apply(graph, layer, weights, group, given)
        return given
    by_name = {layer["name"]: (layer, group) for layer, group in layers}
    values = {_reference(config["input_layers"]): given}

    def value(reference: tuple[str, int]) -> str:
        if reference not in values:
            name, call = reference
            layer, group = by_name[name]
            inputs = map(value, _inputs(layer["inbound_nodes"][call]))
            values[reference] = _apply(graph, layer, weights, group, *inputs)
        return values[reference]

    return value(_reference(config["output_layers"]))


def _reference(history: Any) -> tuple[str, int]:
    """Returns a layer's name and which of its calls, out of `["name", 0, 0]` in any nesting."""
    while isinstance(history[0], list):
        (history,) = history
    return history[0], history[1]


def _inputs(node: Any) -> list[tuple[str, int]]:
    """Returns the inputs of a call of a layer, in order."""
    if isinstance(node, list):
        return [reference for item in node for reference in _inputs(item)]
    if not isinstance(node, dict):
        return []
    if node.get("class_name") == "__keras_tensor__":
        return [_reference(node["config"]["keras_history"])]
    return _inputs(node.get("args"))


def _groups(layers: list[dict[str, Any]]) -> list[str]:
    """Returns the group of each layer in the file of weights, named as in Keras."""
    counts: Counter[str] = Counter()
    groups = []
    for described in layers:
        words = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", described["class_name"])
        group = re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()
        groups.append(f"layers/{group}_{counts[group]}".removesuffix("_0"))
        counts[group] += described["module"] != OPERATIONS_MODULE  # operations have no group
    return groups


def _apply(
    graph: _Graph, described: dict[str, Any], weights: h5py.Group, group: str, *given: str
) -> str:
    """Translates one call of a layer or an operation."""
    kind, config = described["class_name"], described["config"]
    if described["module"] == OPERATIONS_MODULE:
        return _OPERATIONS[kind](graph, SimpleNamespace(**config), *given)
    if kind in _UNCHANGED:
        return given[0]
    if kind in ("Functional", "Sequential", "Model"):
        return _model(graph, config, weights[group], *given)
    if kind not in _LAYERS:
        raise _untranslated(kind)
    if config.get("data_format") == "channels_first":
        raise _untranslated(f"{kind} with its channels first")
    place = f"{weights.name}/{group}"
    if place not in graph.layers:
        graph.layers[place] = _layer(kind, config, weights, group)
    return _LAYERS[kind](graph, graph.layers[place], *given)


def _layer(kind: str, config: dict[str, Any], weights: h5py.Group, group: str) -> SimpleNamespace:
    """Returns a layer's options and weights as attributes; kernels are as ONNX has them."""
    layer = SimpleNamespace(**{**NEW_DEFAULTS, **config})
    for name in _COUNTS & set(config):
        if np.min(config[name]) < 1:
            raise InputError(f"the model has a layer with {name} {config[name]}: below 1")
    names = _WEIGHTS.get(kind, "").split()
    if kind == "Normalization" and config["mean"] is not None:
        names = []
    for option, name in (("use_bias", "bias"), ("scale", "gamma"), ("center", "beta")):
        if name in names and not config[option]:
            names.remove(name)
            setattr(layer, name, None)
    for index, name in enumerate(names):
        values = weights[f"{group}/vars/{index}"]
        if values.dtype.kind != "f":
            raise _untranslated(f"weights of type {values.dtype}")
        stated = _stated_shape(name, config)
        known = [size for size, expected in zip(values.shape, stated, strict=False) if expected]
        if stated and (values.ndim != len(stated) or known != list(filter(None, stated))):
            raise InputError(
                f"the {name} of a layer {kind} is {values.shape} where {stated} is stated"
            )
        array = values[()].astype(np.float32, copy=False)
        if name == "depthwise_kernel":
            layer.groups = array.shape[2]  # a group for each channel
            array = array.transpose(2, 3, 0, 1).reshape(-1, 1, *array.shape[:2])
        elif array.ndim == 4:
            array = array.transpose(3, 2, 0, 1)  # to (outputs, inputs, height, width)
        setattr(layer, name, np.ascontiguousarray(array))
    return layer


def _stated_shape(name: str, config: dict[str, Any]) -> tuple[int | None, ...]:
    """Returns the shape of a kernel according to the options; None for an unknown size."""
    window = config.get("kernel_size", ())
    if name == "kernel":
        return (*window, None, config.get("units", config.get("filters")))
    if name == "depthwise_kernel":
        return (*window, None, config["depth_multiplier"])
    return (1, 1, None, config["filters"]) if name == "pointwise_kernel" else ()


def _untranslated(what: str) -> InputError:
    return InputError(f"the model uses {what}, which is not translated to ONNX: convert to litert")


def _dense(graph: _Graph, layer: Any, given: str) -> str:
    name = graph.add("MatMul", given, graph.constant(layer.kernel))
    if layer.bias is not None:
        name = graph.add("Add", name, graph.constant(layer.bias))
    return _activated(graph, layer, name)


def _convolution(graph: _Graph, layer: Any, given: str) -> str:
    return _activated(graph, layer, _convolved(graph, layer, given, layer.kernel, layer.bias))


def _depthwise(graph: _Graph, layer: Any, given: str) -> str:
    name = _convolved(graph, layer, given, layer.depthwise_kernel, layer.bias)
    return _activated(graph, layer, name)


def _separable(graph: _Graph, layer: Any, given: str) -> str:
    inner = _convolved(graph, layer, given, layer.depthwise_kernel, None)
    pointwise = SimpleNamespace(padding="valid", groups=1, strides=(1, 1), dilation_rate=(1, 1))
    name = _convolved(graph, pointwise, inner, layer.pointwise_kernel, layer.bias)
    return _activated(graph, layer, name)


def _convolved(
    graph: _Graph, layer: Any, given: str, kernel: np.ndarray, bias: np.ndarray | None
) -> str:
    padding: dict[str, Any] = {"auto_pad": _PADDING[layer.padding]}
    if layer.padding == "same" and max(layer.dilation_rate) > 1:  # with strides of 1, in Keras
        sides = zip(kernel.shape[2:], layer.dilation_rate, strict=True)
        total = [(side - 1) * dilation for side, dilation in sides]
        padding = {"pads": [*(item // 2 for item in total), *(-(-item // 2) for item in total)]}
    operands = [kernel] if bias is None else [kernel, bias]
    options = {"group": layer.groups, "strides": layer.strides, "dilations": layer.dilation_rate}
    constants = map(graph.constant, operands)
    return graph.add_channels_first("Conv", given, *constants, **options, **padding)


def _activated(graph: _Graph, layer: Any, given: str) -> str:
    function = layer.activation
    if isinstance(function, dict):
        function = function["config"]
    if function in (None, "linear"):
        return given
    if function in ("silu", "swish"):
        return graph.add("Mul", given, graph.add("Sigmoid", given))
    if function == "relu6":
        return graph.add("Clip", given, graph.constant(0), graph.constant(6))
    if function not in _ACTIVATIONS:
        raise _untranslated(f"the function {function}")
    operator, attributes = _ACTIVATIONS[function]
    return graph.add(operator, given, **attributes)


def _relu(graph: _Graph, layer: Any, given: str) -> str:
    if layer.threshold:
        raise _untranslated("ReLU with a threshold")
    name = graph.add("LeakyRelu", given, alpha=float(layer.negative_slope))
    if layer.max_value is None:
        return name
    return graph.add("Min", name, graph.constant(layer.max_value))


def _pool(operator: str) -> Translate:
    def translate(graph: _Graph, layer: Any, given: str) -> str:
        return graph.add_channels_first(
            operator,
            given,
            kernel_shape=layer.pool_size,
            strides=layer.strides,
            auto_pad=_PADDING[layer.padding],
        )

    return translate


def _global_pool(operator: str) -> Translate:
    def translate(graph: _Graph, layer: Any, given: str) -> str:
        name = graph.add_channels_first(operator, given)
        return name if layer.keepdims else graph.add("Flatten", name, rank=2)

    return translate


def _axes(graph: _Graph, axis: Any, given: str) -> list[int]:
    if axis is None:
        return list(range(graph.ranks[given]))
    return [axis] if isinstance(axis, int) else axis


def _batch_normalization(graph: _Graph, layer: Any, given: str) -> str:
    _check_last_axis(graph, layer.axis, given, "BatchNormalization")
    scale = 1 / np.sqrt(layer.moving_variance.astype(np.float64) + layer.epsilon)
    scale *= layer.gamma if layer.scale else 1
    offset = -layer.moving_mean.astype(np.float64) * scale + (layer.beta if layer.center else 0)
    return graph.add("Add", graph.add("Mul", given, graph.constant(scale)), graph.constant(offset))


def _layer_normalization(graph: _Graph, layer: Any, given: str) -> str:
    axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
    _check_last_axis(graph, axis, given, "LayerNormalization")
    if layer.rms_scaling:
        raise _untranslated("LayerNormalization with rms_scaling")
    gamma = layer.gamma if layer.scale else np.ones(layer.beta.shape)
    operands = map(graph.constant, [gamma, *([layer.beta] if layer.center else [])])
    return graph.add("LayerNormalization", given, *operands, axis=-1, epsilon=layer.epsilon)


def _check_last_axis(graph: _Graph, axis: int, given: str, what: str) -> None:
    if axis not in (-1, graph.ranks[given] - 1):
        raise _untranslated(f"{what} over another axis than the last")


def _normalization(graph: _Graph, layer: Any, given: str) -> str:
    mean, variance = (np.float64(_plain(item)).ravel() for item in (layer.mean, layer.variance))
    deviation = np.maximum(np.sqrt(variance), 1e-7)
    axis = layer.axis[0] if isinstance(layer.axis, list) and len(layer.axis) == 1 else layer.axis
    if layer.invert or (mean.size > 1 and axis not in (-1, graph.ranks[given] - 1)):
        raise _untranslated("Normalization other than by channel")
    centred = graph.add("Sub", given, graph.constant(mean))
    return graph.add("Div", centred, graph.constant(deviation))


def _rescaling(graph: _Graph, layer: Any, given: str) -> str:
    scale, offset = (np.ravel(_plain(item)) for item in (layer.scale, layer.offset))
    return graph.add("Add", graph.add("Mul", given, graph.constant(scale)), graph.constant(offset))


def _plain(values: Any) -> Any:
    """Returns numbers of a configuration, which Keras writes as an object if they were an array."""
    return values["config"]["value"] if isinstance(values, dict) else values


def _resizing(graph: _Graph, layer: Any, given: str) -> str:
    plain = not (layer.crop_to_aspect_ratio or layer.pad_to_aspect_ratio or layer.antialias)
    if layer.interpolation not in _RESIZING or not plain:
        raise _untranslated(f"Resizing with interpolation {layer.interpolation!r}, or in shape")
    # Of all axes: onnxruntime 1.32 fails where it moves a transposition past a Resize of some.
    images, channels = graph.add("Shape", given, end=1), graph.add("Shape", given, start=3)
    sizes = graph.add("Concat", images, graph.integers(layer.height, layer.width), channels, axis=0)
    return graph.add("Resize", given, "", "", sizes, **_RESIZING[layer.interpolation])


def _upsampling(graph: _Graph, layer: Any, given: str) -> str:
    if layer.interpolation not in _RESIZING:
        raise _untranslated(f"UpSampling2D with interpolation {layer.interpolation!r}")
    scales = graph.constant((1, *layer.size, 1))
    return graph.add("Resize", given, "", scales, **_RESIZING[layer.interpolation])


def _cropping(graph: _Graph, layer: Any, given: str) -> str:
    (top, bottom), (left, right) = layer.cropping
    ends = [-margin if margin else 2**62 for margin in (bottom, right)]
    operands = (graph.integers(top, left), graph.integers(*ends), graph.integers(1, 2))
    return graph.add("Slice", given, *operands)


def _padding(graph: _Graph, layer: Any, given: str) -> str:
    (top, bottom), (left, right) = layer.padding
    widths = graph.integers(top, left, bottom, right)
    return graph.add("Pad", given, widths, "", graph.integers(1, 2))


def _flip(graph: _Graph, operation: Any, given: str) -> str:
    axes = _axes(graph, operation.axis, given)
    count = len(axes)
    lists = ([-1] * count, [LOWEST] * count, axes, [-1] * count)  # starts, ends, axes, steps
    return graph.add("Slice", given, *(graph.integers(*values) for values in lists))


def _mean(graph: _Graph, operation: Any, given: str) -> str:
    axes, keep = _axes(graph, operation.axis, given), int(operation.keepdims)
    rank = graph.ranks[given] - (0 if keep else len(axes))
    return graph.add("ReduceMean", given, graph.integers(*axes), keepdims=keep, rank=rank)


def _reshape(graph: _Graph, operation: Any, given: str) -> str:
    shape = [-1 if size is None else size for size in operation.newshape]
    return graph.add("Reshape", given, graph.integers(*shape), rank=len(shape))


def _reshape_layer(graph: _Graph, layer: Any, given: str) -> str:
    shape = (0, *layer.target_shape)  # 0: the size of the batch
    return graph.add("Reshape", given, graph.integers(*shape), rank=len(shape))


def _merge(operator: str) -> Translate:
    def translate(graph: _Graph, layer: Any, *given: str) -> str:
        if len({graph.ranks[name] for name in given}) > 1:
            raise _untranslated("a sum or product of arrays of different ranks")
        return functools.reduce(lambda total, name: graph.add(operator, total, name), given)

    return translate


def _average(graph: _Graph, layer: Any, *given: str) -> str:
    return graph.add("Div", _merge("Add")(graph, layer, *given), graph.constant(len(given)))


def _concatenate(graph: _Graph, layer: Any, *given: str) -> str:
    return graph.add("Concat", *given, axis=layer.axis)


def _one_to_one(operator: str, rank: int | None = None, **attributes: str) -> Translate:
    """Translates a layer whose attributes have other names in ONNX."""

    def translate(graph: _Graph, layer: Any, given: str) -> str:
        values = {name: getattr(layer, ours) for name, ours in attributes.items()}
        return graph.add(operator, given, rank=rank, **values)

    return translate


# The weights of each kind of layer, in the order in which Keras numbers them.
_WEIGHTS = {
    "BatchNormalization": "gamma beta moving_mean moving_variance",
    "Conv2D": "kernel bias",
    "Dense": "kernel bias",
    "DepthwiseConv2D": "depthwise_kernel bias",
    "LayerNormalization": "gamma beta",
    "Normalization": "mean variance",
    "SeparableConv2D": "depthwise_kernel pointwise_kernel bias",
}
# Options that must be at least 1: libraries divide by some of them.
_COUNTS = {"groups", "height", "width", "size", "kernel_size", "pool_size", "strides"}
_COUNTS |= {"dilation_rate"}
_PADDING = {"same": "SAME_UPPER", "valid": "VALID"}
_HALF_PIXEL = {"coordinate_transformation_mode": "half_pixel"}
_RESIZING: dict[str, dict[str, Any]] = {
    "bilinear": {"mode": "linear", **_HALF_PIXEL},
    "nearest": {"mode": "nearest", "nearest_mode": "round_prefer_ceil", **_HALF_PIXEL},
}
_ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "elu": ("Elu", {}),
    "exponential": ("Exp", {}),
    "gelu": ("Gelu", {}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "hard_silu": ("HardSwish", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.2}),
    "log_softmax": ("LogSoftmax", {"axis": -1}),
    "mish": ("Mish", {}),
    "relu": ("Relu", {}),
    "selu": ("Selu", {}),
    "sigmoid": ("Sigmoid", {}),
    "softmax": ("Softmax", {"axis": -1}),
    "softplus": ("Softplus", {}),
    "softsign": ("Softsign", {}),
    "tanh": ("Tanh", {}),
}
# Layers that change nothing at inference.
_UNCHANGED = {"InputLayer", "Identity", "Dropout", "SpatialDropout2D", "GaussianNoise"}
_UNCHANGED |= {"RandomFlip", "RandomTranslation", "RandomRotation", "RandomZoom"}
_UNCHANGED |= {"RandomContrast", "RandomBrightness"}
_OPERATIONS = {"Flip": _flip, "Reshape": _reshape, "Mean": _mean}
_LAYERS: dict[str, Translate] = {
    "Activation": _activated,
    "Add": _merge("Add"),
    "Average": _average,
    "AveragePooling2D": _pool("AveragePool"),
    "BatchNormalization": _batch_normalization,
    "Concatenate": _concatenate,
    "Conv2D": _convolution,
    "Cropping2D": _cropping,
    "Dense": _dense,
    "DepthwiseConv2D": _depthwise,
    "ELU": _one_to_one("Elu", alpha="alpha"),
    "Flatten": _one_to_one("Flatten", rank=2),
    "GlobalAveragePooling2D": _global_pool("GlobalAveragePool"),
    "GlobalMaxPooling2D": _global_pool("GlobalMaxPool"),
    "LayerNormalization": _layer_normalization,
    "LeakyReLU": _one_to_one("LeakyRelu", alpha="negative_slope"),
    "MaxPooling2D": _pool("MaxPool"),
    "Maximum": _merge("Max"),
    "Multiply": _merge("Mul"),
    "Normalization": _normalization,
    "ReLU": _relu,
    "Rescaling": _rescaling,
    "Reshape": _reshape_layer,
    "Resizing": _resizing,
    "SeparableConv2D": _separable,
    "Softmax": _one_to_one("Softmax", axis="axis"),
    "Subtract": _merge("Sub"),
    "UpSampling2D": _upsampling,
    "ZeroPadding2D": _padding,
}
