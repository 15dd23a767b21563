"""Writes a saved Keras model as an ONNX graph, without Keras.

The layers and their options are read from `config.json`, the weights from `model.weights.h5`, where
Keras numbers the layers of each class in their order. Arrays between two layers have Keras's order
of axes, (N, H, W, C); ONNX Runtime removes the transpositions around convolutions when it loads a
graph.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial, reduce
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from classifier.errors import InputError
from classifier.model_folder.folder import WEIGHTS, ModelFolder
from classifier.model_folder.saved_model import MODELS, OPERATIONS_MODULE

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
    from onnx import TensorProto, helper

    config, classes, size = folder.config["config"], folder.labels.classes, folder.image_size
    graph = _Graph(half)
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
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    name_classes(model, classes)
    return model, graph.weights


def name_classes(model: onnx.ModelProto, classes: Sequence[str]) -> None:
    """Writes the class names into the metadata."""
    from onnx import helper

    helper.set_model_props(model, {CLASSES: json.dumps(list(classes), ensure_ascii=False)})


class _Graph:
    """The nodes and constants written so far.

    Attributes:
        nodes: in the order of computation.
        constants: the initializers; those of more than `SMALL` numbers have no content.
        weights: the content of the large constants, by name.
    """

    def __init__(self, half: bool) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self._half = half

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node and returns the name of its output."""
        from onnx import helper

        name = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def add_channels_first(self, operator: str, given: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node that takes and returns (N, C, H, W)."""
        first = self.add("Transpose", given, perm=TO_FIRST)
        return self.add("Transpose", self.add(operator, first, *inputs, **attributes), perm=TO_LAST)

    def constant(self, values: Any, kind: type = np.float32) -> str:
        """Adds a constant and returns its name."""
        from onnx import TensorProto, helper, numpy_helper

        array: np.ndarray = np.ascontiguousarray(values, kind)
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
        return self.add("Cast", name, to=TensorProto.FLOAT) if half else name

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
    if kind in MODELS:
        return _model(graph, config, weights[group], *given)
    if kind not in _LAYERS:
        raise _untranslated(kind)
    normalizes = kind.endswith("Normalization")
    for option, usual in (*_USUAL.items(), *([("axis", -1)] if normalizes else [])):
        if config.get(option, usual) not in (usual, [usual], [usual, usual]):
            raise _untranslated(f"{kind} with {option} {config[option]}")
    return _LAYERS[kind](graph, _layer(kind, config, weights, group), *given)


def _layer(kind: str, config: dict[str, Any], weights: h5py.Group, group: str) -> SimpleNamespace:
    """Returns a layer's options and weights as attributes; kernels are as ONNX has them."""
    layer = SimpleNamespace(**config)
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
        array = values[()].astype(np.float32, copy=False)
        stated = config.get("units", config.get("filters"))
        if stated and name == "kernel" and array.shape[-1] != stated:
            raise InputError(f"a layer {kind} has {array.shape[-1]} outputs and states {stated}")
        if name == "depthwise_kernel":
            name, layer.groups = "kernel", array.shape[2]  # a group for each channel
            array = array.transpose(2, 3, 0, 1).reshape(-1, 1, *array.shape[:2])
        elif array.ndim == 4:
            array = array.transpose(3, 2, 0, 1)  # to (outputs, inputs, height, width)
        setattr(layer, name, np.ascontiguousarray(array))
    return layer


def _untranslated(what: str) -> InputError:
    return InputError(f"the model uses {what}, which is not translated to ONNX: convert to litert")


def _dense(graph: _Graph, layer: Any, given: str) -> str:
    name = graph.add("MatMul", given, graph.constant(layer.kernel))
    if layer.bias is not None:
        name = graph.add("Add", name, graph.constant(layer.bias))
    return _activated(graph, layer, name)


def _convolution(graph: _Graph, layer: Any, given: str) -> str:
    operands = [layer.kernel] if layer.bias is None else [layer.kernel, layer.bias]
    name = graph.add_channels_first(
        "Conv",
        given,
        *map(graph.constant, operands),
        group=layer.groups,
        strides=layer.strides,
        auto_pad=_PADDING[layer.padding],
    )
    return _activated(graph, layer, name)


def _activated(graph: _Graph, layer: Any, given: str) -> str:
    function = layer.activation
    if isinstance(function, dict):
        function = function["config"]
    if function in (None, "linear"):
        return given
    if function in ("silu", "swish"):
        return graph.add("Mul", given, graph.add("Sigmoid", given))
    if function not in _ACTIVATIONS:
        raise _untranslated(f"the function {function}")
    attributes = {"axis": -1} if function == "softmax" else {}
    return graph.add(function.capitalize(), given, **attributes)


def _relu(graph: _Graph, layer: Any, given: str) -> str:
    name = graph.add("Relu", given)
    most = layer.max_value
    return name if most is None else graph.add("Min", name, graph.constant(most))


def _pool(operator: str, graph: _Graph, layer: Any, given: str) -> str:
    return graph.add_channels_first(
        operator,
        given,
        kernel_shape=layer.pool_size,
        strides=layer.strides,
        auto_pad=_PADDING[layer.padding],
    )


def _global_pool(operator: str, graph: _Graph, layer: Any, given: str) -> str:
    name = graph.add_channels_first(operator, given)
    return name if layer.keepdims else graph.add("Flatten", name)


def _batch_normalization(graph: _Graph, layer: Any, given: str) -> str:
    scale = 1 / np.sqrt(layer.moving_variance.astype(np.float64) + layer.epsilon)
    scale *= layer.gamma if layer.scale else 1
    offset = -layer.moving_mean.astype(np.float64) * scale + (layer.beta if layer.center else 0)
    return graph.add("Add", graph.add("Mul", given, graph.constant(scale)), graph.constant(offset))


def _layer_normalization(graph: _Graph, layer: Any, given: str) -> str:
    gamma = layer.gamma if layer.scale else np.ones(layer.beta.shape)
    operands = map(graph.constant, [gamma, *([layer.beta] if layer.center else [])])
    return graph.add("LayerNormalization", given, *operands, axis=-1, epsilon=layer.epsilon)


def _normalization(graph: _Graph, layer: Any, given: str) -> str:
    mean, variance = (np.float64(_plain(item)).ravel() for item in (layer.mean, layer.variance))
    deviation = np.maximum(np.sqrt(variance), 1e-7)
    centred = graph.add("Sub", given, graph.constant(mean))
    return graph.add("Div", centred, graph.constant(deviation))


def _rescaling(graph: _Graph, layer: Any, given: str) -> str:
    scale, offset = (np.ravel(_plain(item)) for item in (layer.scale, layer.offset))
    return graph.add("Add", graph.add("Mul", given, graph.constant(scale)), graph.constant(offset))


def _plain(values: Any) -> Any:
    """Returns numbers of a configuration, which Keras writes as an object if they were an array."""
    return values["config"]["value"] if isinstance(values, dict) else values


def _resizing(graph: _Graph, layer: Any, given: str) -> str:
    # Of all axes: onnxruntime 1.32 fails where it moves a transposition past a Resize of some.
    images, channels = graph.add("Shape", given, end=1), graph.add("Shape", given, start=3)
    sizes = graph.add("Concat", images, graph.integers(layer.height, layer.width), channels, axis=0)
    return graph.add("Resize", given, "", "", sizes, mode="linear")


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
    start, end, axis, step = (graph.integers(n) for n in (-1, LOWEST, operation.axis, -1))
    return graph.add("Slice", given, start, end, axis, step)


def _mean(graph: _Graph, operation: Any, given: str) -> str:
    axes = graph.integers(operation.axis)
    return graph.add("ReduceMean", given, axes, keepdims=int(operation.keepdims))


def _reshape(graph: _Graph, operation: Any, given: str) -> str:
    shape = [-1 if size is None else size for size in operation.newshape]
    return graph.add("Reshape", given, graph.integers(*shape))


def _add(graph: _Graph, layer: Any, *given: str) -> str:
    return reduce(lambda total, name: graph.add("Add", total, name), given)


# The weights of each kind of layer, in the order in which Keras numbers them.
_WEIGHTS = {
    "BatchNormalization": "gamma beta moving_mean moving_variance",
    "Conv2D": "kernel bias",
    "Dense": "kernel bias",
    "DepthwiseConv2D": "depthwise_kernel bias",
    "LayerNormalization": "gamma beta",
    "Normalization": "mean variance",
}
# Options that are translated only as they are in plain classifiers.
_USUAL = {
    "antialias": False,
    "crop_to_aspect_ratio": False,
    "data_format": "channels_last",
    "dilation_rate": 1,
    "interpolation": "bilinear",
    "invert": False,
    "negative_slope": 0.0,
    "pad_to_aspect_ratio": False,
    "rms_scaling": False,
    "threshold": 0.0,
}
_PADDING = {"same": "SAME_UPPER", "valid": "VALID"}
_ACTIVATIONS = {"gelu", "relu", "sigmoid", "softmax", "tanh"}  # operators of these names
# Layers that change nothing at inference.
_UNCHANGED = {"InputLayer", "Identity", "Dropout", "SpatialDropout2D", "GaussianNoise"}
_UNCHANGED |= {f"Random{name}" for name in ("Flip", "Translation", "Rotation", "Zoom")}
_UNCHANGED |= {"RandomContrast", "RandomBrightness"}
_OPERATIONS = {"Flip": _flip, "Reshape": _reshape, "Mean": _mean}
_LAYERS: dict[str, Translate] = {
    "Activation": _activated,
    "Add": _add,
    "AveragePooling2D": partial(_pool, "AveragePool"),
    "BatchNormalization": _batch_normalization,
    "Concatenate": lambda graph, layer, *given: graph.add("Concat", *given, axis=layer.axis),
    "Conv2D": _convolution,
    "Cropping2D": _cropping,
    "Dense": _dense,
    "DepthwiseConv2D": _convolution,
    "Flatten": lambda graph, layer, given: graph.add("Flatten", given),
    "GlobalAveragePooling2D": partial(_global_pool, "GlobalAveragePool"),
    "GlobalMaxPooling2D": partial(_global_pool, "GlobalMaxPool"),
    "LayerNormalization": _layer_normalization,
    "MaxPooling2D": partial(_pool, "MaxPool"),
    "Normalization": _normalization,
    "ReLU": _relu,
    "Rescaling": _rescaling,
    "Reshape": lambda graph, layer, given: graph.add(
        "Reshape", given, graph.integers(0, *layer.target_shape)
    ),
    "Resizing": _resizing,
    "Softmax": lambda graph, layer, given: graph.add("Softmax", given, axis=layer.axis),
    "ZeroPadding2D": _padding,
}
