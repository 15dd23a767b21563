"""Validates saved Keras models before Keras loads them, and loads them.

`safe_mode` prevents Keras from running code in a saved model, but not from reading files or from
allocating as much memory as a malicious file requests. Therefore the configuration is read as JSON,
and every object in it must be in an allowlist of layers that only compute; the weights are opened
as HDF5 and must be plain arrays inside the file itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifier.environment import import_quietly
from classifier.errors import InputError
from classifier.settings import MAX_IMAGE_SIZE, MIN_IMAGE_SIZE

if TYPE_CHECKING:
    import h5py
    import keras


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


MIN_KERAS_VERSION = "3.6.0"  # the first whose `load_model` takes hf://; tested with four backends
# Options of layers that Keras 3.15 writes and Keras 3.6 does not know, with their defaults.
NEW_DEFAULTS: dict[str, Any] = {
    "quantization_config": None,
    "input_axes": None,
    "output_axes": None,
    "optional": False,
    "rms_scaling": False,
    "synchronized": False,
    "renorm": False,
    "renorm_clipping": None,
    "renorm_momentum": 0.99,
    "antialias": False,
}
MAX_PARAMETERS = 250_000_000  # 1 GB in float32
MAX_ELEMENTS = 2**23  # of any activation between two layers, per image
MAX_SIZE = 2**16  # units, filters, padding …
MAX_VIEWS = 16  # views of an image that a model may concatenate to a batch
MAX_DEPTH = 60  # nesting levels of a configuration
MAX_LAYERS = 5_000

MODELS = frozenset({"Functional", "Model", "Sequential"})
MODEL_MODULES = frozenset(
    {"keras", "keras.models", "keras.src.models.functional", "keras.src.models.sequential"}
)
# Layers that only compute: none reads files, contains code or calls another framework.
LAYERS = _names(
    """
    InputLayer Dense Flatten Reshape Identity Activation ReLU LeakyReLU ELU Softmax
    Conv2D DepthwiseConv2D SeparableConv2D ZeroPadding2D Cropping2D UpSampling2D
    MaxPooling2D AveragePooling2D GlobalMaxPooling2D GlobalAveragePooling2D
    BatchNormalization LayerNormalization GroupNormalization Normalization Rescaling Resizing
    Dropout SpatialDropout2D GaussianNoise
    Add Subtract Multiply Average Maximum Concatenate
    RandomFlip RandomTranslation RandomRotation RandomZoom RandomContrast RandomBrightness
    """
)
# Operations that a model uses to average over views, and their arguments.
OPERATIONS = {"Flip": {"axis"}, "Reshape": {"newshape"}, "Mean": {"axis", "keepdims"}}
OPERATIONS_MODULE = "keras.src.ops.numpy"
# What may be in a configuration: the names of each module.
ALLOWED = {
    **dict.fromkeys(MODEL_MODULES, MODELS),
    "keras": MODELS | {"DTypePolicy"},
    "keras.layers": LAYERS,
    OPERATIONS_MODULE: frozenset(OPERATIONS),
    "keras.initializers": _names(
        """
        Zeros Ones Constant RandomNormal RandomUniform TruncatedNormal VarianceScaling
        GlorotNormal GlorotUniform HeNormal HeUniform LecunNormal LecunUniform
        """
    ),
    "keras.regularizers": frozenset({"L1", "L2", "L1L2"}),
    "keras.constraints": frozenset({"MaxNorm", "NonNeg", "UnitNorm"}),
    "keras.random": frozenset({"SeedGenerator"}),
    "keras.src.random.seed_generator": frozenset({"SeedGenerator"}),
}
VALUES = frozenset({"__keras_tensor__", "__numpy__", "__tuple__", "__slice__", "__ellipsis__"})
ACTIVATIONS = _names(
    """
    elu exponential gelu hard_sigmoid hard_silu leaky_relu linear log_softmax mish relu relu6 selu
    sigmoid silu softmax softplus softsign swish tanh
    """
)
SIZES = _names(
    """
    units filters kernel_size padding cropping size pool_size strides dilation_rate target_shape
    height width depth_multiplier groups
    """
)
# Layers that do not change the size of the last axis.
WIDTH_PRESERVING = _names(
    "Activation ReLU LeakyReLU Softmax Identity Dropout Average Flip Reshape Mean"
)
ADVICE = "only models made of Keras's own computing layers are loaded"


def check(config: dict[str, Any], weights: Path, *, classes: int) -> None:
    """Checks a saved model without loading it.

    Args:
        config: the content of `config.json`.
        weights: the file `model.weights.h5`.
        classes: the number of outputs that the model must have.

    Raises:
        InputError: an object of the configuration is not allowed, the input is not
            (None, S, S, 3), the output is not (None, `classes`), the model is too large, or the
            weights are not plain arrays inside the file.
    """
    config = {key: value for key, value in config.items() if key != "compile_config"}
    if not _is_model(config):
        raise InputError(f"config.json describes no Keras 3 model: {ADVICE}")
    _check_objects(config)
    image_size(config)
    width = _output_width(config)
    if width not in (None, classes):
        raise InputError(
            f"the model has {width} outputs and labels.json names {classes} classes: give "
            "both the same number"
        )
    parameters = sum(_parameters(layer) for layer in _layers(config))
    if parameters > MAX_PARAMETERS:
        raise InputError(
            f"the model has {parameters:,} parameters: more than the {MAX_PARAMETERS:,} that are "
            "allowed"
        )
    _check_weights(weights)


def image_size(config: dict[str, Any]) -> int:
    """Returns the side of a saved model's input images in pixels.

    Args:
        config: the content of `config.json`.

    Raises:
        InputError: the input is not (None, S, S, 3), or S is out of range.
    """
    layers = _direct_layers(config)
    inputs = [layer["config"] for layer in layers if layer["class_name"] == "InputLayer"]
    shapes = [settings.get("batch_shape") for settings in inputs]
    return _image_side(shapes[0] if len(shapes) == 1 else shapes)


def load(folder: Path, *, classes: int) -> keras.Model:
    """Loads a model that `check` has accepted, uncompiled, in Keras's safe mode.

    Raises:
        InputError: Keras cannot read it, or the weights or shapes do not match.
    """
    import_quietly("keras")
    import keras

    try:
        model = keras.saving.load_model(folder, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises many kinds of errors for a file that does not match
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"Keras {keras.__version__} cannot load the model in {folder}: {reason}"
        ) from error
    # The actual shapes: the configuration may state others.
    _image_side(list(model.input_shape))
    if tuple(model.output_shape) != (None, classes):
        raise InputError(
            f"the model in {folder} must map images to (None, {classes}). "
            f"Received: {tuple(model.output_shape)}"
        )
    for shape in _shapes(model):
        _check_elements(shape)
    return model


def for_older_keras(config: Any) -> Any:
    """Returns a configuration that older versions of Keras 3 can read.

    Newer options are removed if they have their defaults, and so are the repeated names of
    operations. A model that uses a newer option keeps it and needs a newer Keras.

    Args:
        config: the content of a `config.json`, or a part of it.
    """
    if isinstance(config, dict):
        compatible = {
            key: for_older_keras(value)
            for key, value in config.items()
            if key not in NEW_DEFAULTS or value != NEW_DEFAULTS[key]
        }
        if config.get("module") == OPERATIONS_MODULE and isinstance(config.get("config"), dict):
            compatible["config"].pop("name", None)
        return compatible
    return [for_older_keras(item) for item in config] if isinstance(config, list) else config


def _is_model(node: Any) -> bool:
    if not isinstance(node, dict):
        return False
    return str(node.get("module")) in MODEL_MODULES and str(node.get("class_name")) in MODELS


def _image_side(shape: Any) -> int:
    """Returns S of an input's shape, which must be [None, S, S, 3]; else raises `InputError`."""
    side = shape[1] if isinstance(shape, list) and len(shape) == 4 else None
    if (
        type(side) is not int
        or shape != [None, side, side, 3]
        or not MIN_IMAGE_SIZE <= side <= MAX_IMAGE_SIZE
    ):
        raise InputError(
            f"the model's input must be (None, S, S, 3): RGB images of S = "
            f"{MIN_IMAGE_SIZE} to {MAX_IMAGE_SIZE} pixels. Received: {shape}"
        )
    return side


def _walk(node: Any, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yields every key and value in a JSON value, at any depth."""
    if depth > MAX_DEPTH:
        raise InputError("config.json is too deeply nested")
    if isinstance(node, dict):
        for key, value in node.items():
            yield key, value
            yield from _walk(value, depth + 1)
    elif isinstance(node, list):
        for value in node:
            yield "", value
            yield from _walk(value, depth + 1)


def _check_objects(config: dict[str, Any]) -> None:
    objects = 0
    for key, value in [("", config), *_walk(config)]:
        if isinstance(value, dict) and ("class_name" in value or "registered_name" in value):
            _check_object(value)
            objects += 1
        if key in SIZES:
            _check_sizes(key, value)
        if key in ("shape", "batch_shape", "input_shape"):
            _check_elements(value)
    if objects > 100 * MAX_LAYERS:
        raise InputError(f"config.json describes {objects:,} objects: too many for a model")


def _check_object(described: dict[str, Any]) -> None:
    """Raises InputError for an object that is not in the allowlists."""
    name, module = str(described.get("class_name")), described.get("module")
    config, registered = described.get("config"), described.get("registered_name")
    if name in VALUES and module is None:
        return
    if name == "function":
        if module in ("builtins", "keras.activations") and str(config) in ACTIVATIONS:
            return
        raise InputError(f"the model uses the function {config!r}: {ADVICE}")
    if name in ("Lambda", "__lambda__"):
        raise InputError(f"the model has a Lambda layer, which holds code: {ADVICE}")
    allowed = name in ALLOWED.get(str(module), ())
    if not allowed or registered not in (None, name):
        shown = registered if isinstance(registered, str) and allowed else f"{module}.{name}"
        raise InputError(f"the model uses {shown}, which is not a layer of Keras: {ADVICE}")
    if module == OPERATIONS_MODULE:
        _check_operation(name, config)
    if name == "Concatenate":
        _check_concatenation(config, described.get("inbound_nodes"))


def _check_operation(name: str, config: Any) -> None:
    """Raises InputError for arguments that are not in `OPERATIONS`, or are not small integers."""
    arguments = dict(config) if isinstance(config, dict) else {"": config}
    arguments.pop("name", None)
    for argument, value in arguments.items():
        plain = all(
            item is None or (type(item) in (int, bool) and abs(item) <= MAX_SIZE)
            for item in (value if isinstance(value, list) else [value])
        )
        if argument not in OPERATIONS[name] or not plain:
            raise InputError(f"the model calls {name} with {argument}={value!r}: {ADVICE}")


def _check_concatenation(config: Any, calls: Any) -> None:
    """Raises InputError for a batch of more than `MAX_VIEWS` views, each as costly as an image."""
    axis = config.get("axis", -1) if isinstance(config, dict) else None
    count = sum(key == "keras_history" for key, _ in _walk(calls))
    if type(axis) is not int or not (axis in (-1, 1, 2, 3) or (axis == 0 and count <= MAX_VIEWS)):
        raise InputError(
            f"the model concatenates {count} arrays along the axis {axis!r}: this is not allowed"
        )


def _check_sizes(key: str, value: Any) -> None:
    for item in [value, *(inner for _, inner in _walk(value))]:
        if isinstance(item, (int, float)) and abs(item) > MAX_SIZE:
            raise InputError(f"the model has a layer with {key} {item}: larger than is allowed")


def _check_elements(shape: Any) -> None:
    plain = isinstance(shape, list) and all(item is None or type(item) is int for item in shape)
    if plain and math.prod(item for item in shape if item) > MAX_ELEMENTS:
        raise InputError(f"the model works on arrays of shape {shape}: larger than is allowed")


def _layers(model: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns all layers of a model, including those of nested models."""
    found = []
    for layer in _direct_layers(model):
        found.append(layer)
        if _is_model(layer):
            found.extend(_layers(layer))
    if len(found) > MAX_LAYERS:
        raise InputError(f"the model has more than {MAX_LAYERS:,} layers")
    return found


def _direct_layers(model: dict[str, Any]) -> list[dict[str, Any]]:
    content = model.get("config")
    layers = content.get("layers") if isinstance(content, dict) else None
    if not isinstance(layers, list) or not layers:
        raise InputError("config.json describes a model without layers: save it with Keras 3")
    for layer in layers:
        described = isinstance(layer, dict) and isinstance(layer.get("class_name"), str)
        if not described or not isinstance(layer.get("config"), dict):
            raise InputError(
                "config.json holds a layer without a configuration: save it with Keras 3"
            )
    return layers


def _parameters(layer: dict[str, Any]) -> int:
    """Returns an upper bound of the number of weights in a layer's kernels."""
    settings, build = layer["config"], layer.get("build_config")
    if layer["class_name"] not in ("Dense", "Conv2D", "DepthwiseConv2D", "SeparableConv2D"):
        return 0
    shape = build.get("input_shape") if isinstance(build, dict) else None
    width = shape[-1] if isinstance(shape, list) and shape else None
    outputs = settings.get("units", settings.get("filters", 1))
    multiplier = settings.get("depth_multiplier", 1)
    window = settings.get("kernel_size", 1)
    factors = [width, outputs, multiplier, *(window if isinstance(window, list) else [window])]
    if not all(type(factor) is int for factor in factors):
        raise InputError(
            f"the size of the layer {settings.get('name')!r} is not stated in config.json: build "
            "the model and save it with Keras 3"
        )
    return math.prod(factors)


def _output_width(model: dict[str, Any]) -> int | None:
    """Returns the units of the last dense layer; None if that does not determine the outputs."""
    for layer in reversed(_direct_layers(model)):
        if _is_model(layer):
            return _output_width(layer)
        if layer["class_name"] == "Dense":
            units = layer["config"].get("units")
            return units if type(units) is int else None
        if layer["class_name"] not in WIDTH_PRESERVING:
            return None
    return None


def _shapes(model: keras.Model) -> Iterator[list[int | None]]:
    """Yields the output shape of each layer of a loaded model."""
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _shapes(layer)
        else:
            for tensor in keras.tree.flatten(layer.output):
                yield list(tensor.shape)


def _check_weights(path: Path) -> None:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            values = sum(dataset.size for dataset in _datasets(file))
    except InputError:
        raise
    except Exception as error:  # for a damaged file h5py raises OSError, RuntimeError, KeyError …
        raise InputError(
            f"{path} is damaged or not an HDF5 file ({error}): download it again"
        ) from error
    if not values:
        raise InputError(f"{path} holds no weights: save the model again")
    if values > MAX_PARAMETERS:
        raise InputError(f"{path} holds {values:,} numbers: more than {MAX_PARAMETERS:,}")


def _datasets(group: h5py.Group, depth: int = 0) -> Iterator[h5py.Dataset]:
    """Yields the arrays in a file; raises InputError for links and non-numeric arrays."""
    import h5py

    if depth > MAX_DEPTH:
        raise InputError(f"{group.file.filename} is too deeply nested")
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise InputError(f"{group.file.filename} holds a link, {name!r}: it is not loaded")
        item = group[name]
        if isinstance(item, h5py.Group):
            yield from _datasets(item, depth + 1)
            continue
        if not isinstance(item, h5py.Dataset) or item.is_virtual or item.external:
            raise InputError(
                f"{group.file.filename} holds {name!r}, whose data is in another file: it is "
                "not loaded"
            )
        if item.dtype.kind not in "fiubV" or item.dtype.hasobject:
            raise InputError(f"{group.file.filename} holds {name!r} of type {item.dtype}")
        yield item
