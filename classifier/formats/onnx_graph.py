"""Writes a saved Keras model as an ONNX graph, without Keras.

The layers and their options are read from `config.json`, the weights from `model.weights.h5`, where
Keras numbers the layers of each class in their order.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
SMALL = 1024  # numbers: smaller constants are not worth storing in float16
IR_VERSION = 9  # of the same releases
INPUT, OUTPUT, CLASSES = "images", "probabilities", "classes"
TO_FIRST, TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]  # (N, H, W, C) to (N, C, H, W), and back
LOWEST = -(2**63) + 1  # as the end of a slice: up to and with the first element


def write_onnx(folder: ModelFolder, path: Path, *, half: bool = False) -> None:
    """Writes a model as one ONNX file that takes raw pixels, any number of images at a time.

    Args:
        folder: a model folder that `check` accepts; its class names are written as JSON under the
            metadata key `classes`.
        path: the file.
        half: stores kernels in float16; they are computed with in float32.

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

    config, classes = folder.config, folder.labels.classes
    graph = _Graph(half)
    with h5py.File(folder.path / WEIGHTS, "r") as weights:
        result = graph.last(_model(graph, config["config"], weights, _Value(INPUT, 4)))
    graph.nodes.append(helper.make_node("Identity", [result], [OUTPUT]))
    size = folder.image_size
    images = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [1, size, size, 3])
    answer = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [1, len(classes)])
    model = helper.make_model(
        helper.make_graph(
            graph.nodes, config["config"]["name"], [images], [answer], graph.constants
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="keras",
    )
    _check_shapes(onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    name_classes(model, classes)
    return model, graph.weights


def _check_shapes(model: onnx.ModelProto) -> None:
    """Raises InputError for an array, of one image, that is too large or of an unknown shape."""
    for value in model.graph.value_info:
        shape = [size.dim_value for size in value.type.tensor_type.shape.dim]
        if any(size < 1 for size in shape) or math.prod(shape[1:]) > MAX_ELEMENTS:
            raise InputError(f"the model works on arrays of shape {shape}: larger than is allowed")


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
        self.weights: dict[str, np.ndarray] = {}
        self.layers: dict[str, Any] = {}  # by their group in the file of weights
        self._half = half
        self._known: dict[Any, tuple[str, np.ndarray]] = {}

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node with one output and returns the output's name."""
        from onnx import helper

        name = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def constant(self, values: Any, kind: type = np.float32) -> str:
        """Returns the name of a constant, which is written once, however often it is used."""
        array: np.ndarray = np.ascontiguousarray(values, kind)
        key: Any = id(array)  # a layer's kernel, whose bytes need not be compared
        if array is not values or array.size <= SMALL:
            key = (array.dtype.str, array.shape, hashlib.sha256(array.data).digest())
        if key not in self._known:
            self._known[key] = self._constant(array), array
        return self._known[key][0]

    def _constant(self, array: np.ndarray) -> str:
        from onnx import TensorProto, helper, numpy_helper

        name = f"constant_{len(self.constants)}"
        if array.size <= SMALL:
            self.constants.append(numpy_helper.from_array(array, name))
            return name
        half = self._half and array.ndim > 1 and array.dtype == np.float32
        self.weights[name] = array = array.astype(np.float16) if half else array
        tensor = TensorProto(name=name, dims=array.shape, data_location=TensorProto.EXTERNAL)
        tensor.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
        tensor.external_data.add(key="location", value="weights")  # elsewhere
        self.constants.append(tensor)
        return self.add("Cast", name, to=TensorProto.FLOAT) if half else name

    def split(self, value: _Value, count: int) -> list[_Value]:
        """Adds a node that divides a batch into so many equal parts."""
        from onnx import helper

        names = [f"Split_{len(self.nodes)}_{index}" for index in range(count)]
        self.nodes.append(helper.make_node("Split", [value.name], names, num_outputs=count, axis=0))
        return [_Value(name, value.rank, value.channels_first) for name in names]

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


def _model(graph: _Graph, config: dict[str, Any], weights: h5py.Group, given: _Value) -> _Value:
    """Translates a model, or one inside of another, and returns its output."""
    layers = config["layers"]
    groups = _groups(layers)
    if "input_layers" not in config:  # a Sequential one
        for described in layers:
            given = _apply(graph, described, weights, groups, [given])
        return given
    return _Calls(graph, config, weights, groups, given).value(_reference(config["output_layers"]))


class _Calls:
    """The calls of a model's layers; each is translated when it is needed.

    A layer that is called for several views of an image is called once, on all of them in one
    batch: so its weights are read once.
    """

    def __init__(
        self,
        graph: _Graph,
        config: dict[str, Any],
        weights: h5py.Group,
        groups: dict[str, str],
        given: _Value,
    ) -> None:
        self._graph, self._weights, self._groups = graph, weights, groups
        self._layers = {described["name"]: described for described in config["layers"]}
        self._values = {_reference(config["input_layers"]): given}
        self._batches: dict[str, _Value] = {}
        self._begun: set[str] = set()

    def value(self, reference: tuple[str, int]) -> _Value:
        """Returns what a call of a layer gives."""
        name, call = reference
        calls = self._layers[name]["inbound_nodes"]
        if reference not in self._values and self._is_batched(name):
            parts = self._graph.split(self._batch(name), len(calls))
            self._values.update({(name, index): part for index, part in enumerate(parts)})
        if reference not in self._values:
            sources = [self.value(source) for source in _sources(calls[call])]
            self._values[reference] = self._apply(name, sources)
        return self._values[reference]

    def _is_batched(self, name: str) -> bool:
        described = self._layers[name]
        calls = described["inbound_nodes"]
        alone = described["module"] == OPERATIONS_MODULE or described["class_name"] not in _BY_IMAGE
        if len(calls) < 2 or alone or (name in self._begun and name not in self._batches):
            return False
        first, *others = ([tensor["shape"] for tensor in _tensors(call)] for call in calls)
        return all(shapes == first for shapes in others)

    def _batch(self, name: str) -> _Value:
        """Returns what all calls of a layer give, one after the other."""
        if name not in self._batches:
            self._begun.add(name)  # a layer may also be called on what it gave
            calls = map(_sources, self._layers[name]["inbound_nodes"])
            sources = [self._joined(list(each)) for each in zip(*calls, strict=True)]
            self._batches[name] = self._apply(name, sources)
        return self._batches[name]

    def _joined(self, references: list[tuple[str, int]]) -> _Value:
        name = references[0][0]
        count = len(self._layers[name]["inbound_nodes"])
        if references == [(name, call) for call in range(count)] and self._is_batched(name):
            return self._batch(name)
        values = [self.value(reference) for reference in references]
        joined = self._graph.add("Concat", *map(self._graph.last, values), axis=0)
        return _Value(joined, values[0].rank)

    def _apply(self, name: str, given: list[_Value]) -> _Value:
        return _apply(self._graph, self._layers[name], self._weights, self._groups, given)


def _reference(history: Any) -> tuple[str, int]:
    """Returns a layer's name and which of its calls, out of `["name", 0, 0]` in any nesting."""
    while isinstance(history[0], list):
        (history,) = history
    return history[0], history[1]


def _sources(node: dict[str, Any]) -> list[tuple[str, int]]:
    """Returns what a call of a layer takes, in order."""
    return [_reference(tensor["keras_history"]) for tensor in _tensors(node)]


def _tensors(node: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    waiting = list(node["args"])
    while waiting:
        item = waiting.pop(0)
        if isinstance(item, list):
            waiting[:0] = item
        elif isinstance(item, dict) and item.get("class_name") == "__keras_tensor__":
            found.append(item["config"])
    return found


def _groups(layers: list[dict[str, Any]]) -> dict[str, str]:
    """Returns where the file of weights holds each layer, as Keras names the groups."""
    counts: Counter[str] = Counter()
    groups = {}
    for described in layers:
        if described["module"] != OPERATIONS_MODULE:
            words = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", described["class_name"])
            group = re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()
            number = f"_{counts[group]}" if counts[group] else ""
            groups[described["config"]["name"]] = f"layers/{group}{number}"
            counts[group] += 1
    return groups


def _apply(
    graph: _Graph,
    described: dict[str, Any],
    weights: h5py.Group,
    groups: dict[str, str],
    given: list[_Value],
) -> _Value:
    """Translates one call of a layer or an operation."""
    kind, config = described["class_name"], described["config"]
    if kind in _UNCHANGED:
        return given[0]
    if described["module"] == OPERATIONS_MODULE:
        if kind not in _OPERATIONS:
            raise _untranslated(f"the operation {kind}")
        return _OPERATIONS[kind](graph, config, given[0])
    group = groups[config["name"]]
    if kind in ("Functional", "Sequential", "Model"):
        return _model(graph, config, weights[group], given[0])
    if kind in _MERGES:
        return _merge(graph, _MERGES[kind], kind == "Average", given)
    if kind == "Concatenate":
        name = graph.add("Concat", *map(graph.last, given), axis=config["axis"])
        return _Value(name, given[0].rank)
    if kind not in _LAYERS:
        raise _untranslated(kind)
    if config.get("data_format") == "channels_first":
        raise _untranslated(f"{kind} with its channels first")
    place = f"{weights.name}/{group}"
    if place not in graph.layers:
        graph.layers[place] = _layer(kind, config, weights, group)
    return _LAYERS[kind](graph, graph.layers[place], given[0])


def _layer(kind: str, config: dict[str, Any], weights: h5py.Group, group: str) -> SimpleNamespace:
    """Returns a layer's options and weights as attributes, named as in Keras."""
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
    for index, name in enumerate(names):
        values = weights[f"{group}/vars/{index}"]
        if values.dtype.kind != "f":
            raise _untranslated(f"weights of type {values.dtype}")
        setattr(layer, name, values[()].astype(np.float32, copy=False))
    for name, stated in _stated_shapes(kind, config).items():
        found = getattr(layer, name).shape
        if len(found) != len(stated) or any(
            b and a != b for a, b in zip(found, stated, strict=True)
        ):
            raise InputError(f"the {name} of a layer {kind} is {found} where {stated} is stated")
    return layer


def _stated_shapes(kind: str, config: dict[str, Any]) -> dict[str, tuple[int | None, ...]]:
    """Returns what the options say of the shapes of kernels; None where they do not."""
    window, factor = config.get("kernel_size", ()), config.get("depth_multiplier")
    if kind in ("Dense", "Conv2D"):
        return {"kernel": (*window, None, config.get("units", config.get("filters")))}
    if kind == "DepthwiseConv2D":
        return {"kernel": (*window, None, factor)}
    if kind == "SeparableConv2D":
        shapes = {"depthwise_kernel": (*window, None, factor)}
        return {**shapes, "pointwise_kernel": (1, 1, None, config["filters"])}
    return {}


def _untranslated(what: str) -> InputError:
    return InputError(f"the model uses {what}, which is not translated to ONNX: convert to litert")


def _dense(graph: _Graph, layer: Any, given: _Value) -> _Value:
    name = graph.add("MatMul", graph.last(given), graph.constant(layer.kernel))
    return _activated(graph, layer, _biased(graph, layer, _Value(name, given.rank)))


def _convolution(graph: _Graph, layer: Any, given: _Value) -> _Value:
    kernel = layer.kernel.transpose(3, 2, 0, 1)  # to (outputs, inputs, height, width)
    done = _convolved(graph, layer, given, kernel, layer.groups)
    return _activated(graph, layer, _biased(graph, layer, done))


def _depthwise(graph: _Graph, layer: Any, given: _Value) -> _Value:
    done = _convolved(graph, layer, given, *_by_channel(layer.kernel))
    return _activated(graph, layer, _biased(graph, layer, done))


def _separable(graph: _Graph, layer: Any, given: _Value) -> _Value:
    inner = _convolved(graph, layer, given, *_by_channel(layer.depthwise_kernel))
    kernel = graph.constant(layer.pointwise_kernel.transpose(3, 2, 0, 1))
    done = _Value(graph.add("Conv", graph.first(inner), kernel), 4, channels_first=True)
    return _activated(graph, layer, _biased(graph, layer, done))


def _by_channel(kernel: Any) -> tuple[np.ndarray, int]:
    """Returns a depthwise kernel as one with as many groups as there are channels."""
    height, width, channels, multiplier = kernel.shape
    moved = kernel.transpose(2, 3, 0, 1)
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
    shape = (-1, 1, 1) if given.channels_first else (-1,)
    name = graph.add("Add", given.name, graph.constant(layer.bias.reshape(shape)))
    return _Value(name, given.rank, given.channels_first)


def _activated(graph: _Graph, layer: Any, given: _Value) -> _Value:
    function = layer.activation
    if isinstance(function, dict):
        function = function["config"]
    if function in (None, "linear"):
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
    scale = 1 / np.sqrt(layer.moving_variance.astype(np.float64) + layer.epsilon)
    scale *= layer.gamma if layer.scale else 1
    offset = -layer.moving_mean.astype(np.float64) * scale
    return graph.affine(given, scale, offset + (layer.beta if layer.center else 0))


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
    mean, variance = (np.float64(_plain(item)).ravel() for item in (layer.mean, layer.variance))
    deviation = np.maximum(np.sqrt(variance), 1e-7)
    axis = layer.axis[0] if isinstance(layer.axis, list) and len(layer.axis) == 1 else layer.axis
    if layer.invert or (mean.size > 1 and axis not in (-1, given.rank - 1)):
        raise _untranslated("Normalization other than by channel")
    return graph.affine(given, mean, deviation, "Sub Div")


def _rescaling(graph: _Graph, layer: Any, given: _Value) -> _Value:
    return graph.affine(given, _plain(layer.scale), _plain(layer.offset))


def _plain(values: Any) -> Any:
    """Returns numbers of a configuration, which Keras writes as an object if they were an array."""
    return values["config"]["value"] if isinstance(values, dict) else values


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


# The weights of each kind of layer, in the order in which Keras numbers them.
_WEIGHTS = {
    "BatchNormalization": "gamma beta moving_mean moving_variance",
    "Conv2D": "kernel bias",
    "Dense": "kernel bias",
    "DepthwiseConv2D": "kernel bias",
    "LayerNormalization": "gamma beta",
    "Normalization": "mean variance",
    "SeparableConv2D": "depthwise_kernel pointwise_kernel bias",
}
# Options whose numbers count something: libraries divide by some of them.
_COUNTS = {
    "dilation_rate",
    "groups",
    "height",
    "kernel_size",
    "pool_size",
    "size",
    "strides",
    "width",
}
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
# What treats each image of a batch by itself.
_BY_IMAGE = {*_LAYERS, *_UNCHANGED, *_MERGES}
