"""Keras models in the unzipped layout: looked through as data first, loaded by Keras only then.

`safe_mode` keeps Keras from running code of a saved model, but not from reading files, nor from
allocating what a hostile file asks for. So the configuration is read as JSON, and every object that
it would build must be in a list of layers that only compute; the weights are opened as HDF5 and
must be plain arrays inside this very file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifier.errors import InputError
from classifier.quiet import import_quietly

if TYPE_CHECKING:
    import h5py
    import keras


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


INPUT_SHAPE = (None, 32, 32, 3)
OLDEST_KERAS = "3.6.0"  # the first whose `load_model` takes hf://; tried with four backends
# What Keras 3.15 writes of a layer and 3.6 does not know, each with the value that changes nothing.
NEWER_SETTINGS: dict[str, Any] = {
    "quantization_config": None,
    "input_axes": None,
    "output_axes": None,
    "optional": False,
    "rms_scaling": False,
    "synchronized": False,
    "renorm": False,
    "renorm_clipping": None,
    "renorm_momentum": 0.99,
}
MAX_PARAMETERS = 250_000_000  # 1 GB in float32
MAX_ELEMENTS = 2**23  # of any array that passes between two layers, per image
MAX_SIZE = 2**16  # units, filters, padding …
MAX_DEPTH = 60  # levels of nesting of a configuration
MAX_LAYERS = 5_000

MODELS = {
    ("keras", "Functional"),
    ("keras", "Model"),
    ("keras", "Sequential"),
    ("keras.models", "Functional"),
    ("keras.models", "Model"),
    ("keras.models", "Sequential"),
    ("keras.src.models.functional", "Functional"),
    ("keras.src.models.sequential", "Sequential"),
}
# Layers that compute and do nothing else: none reads a file, holds code or calls another framework.
LAYERS = _words(
    """
    InputLayer Dense EinsumDense Flatten Reshape Permute RepeatVector Identity Masking
    Activation ReLU LeakyReLU PReLU ELU Softmax
    Conv1D Conv2D Conv3D DepthwiseConv1D DepthwiseConv2D SeparableConv1D SeparableConv2D
    Conv1DTranspose Conv2DTranspose Conv3DTranspose
    MaxPooling1D MaxPooling2D AveragePooling1D AveragePooling2D
    GlobalMaxPooling1D GlobalMaxPooling2D GlobalAveragePooling1D GlobalAveragePooling2D
    AdaptiveAveragePooling2D AdaptiveMaxPooling2D
    ZeroPadding1D ZeroPadding2D Cropping1D Cropping2D UpSampling1D UpSampling2D
    BatchNormalization LayerNormalization GroupNormalization RMSNormalization UnitNormalization
    SpectralNormalization Normalization Rescaling Resizing CenterCrop
    Dropout SpatialDropout1D SpatialDropout2D AlphaDropout GaussianDropout GaussianNoise
    ActivityRegularization
    Add Subtract Multiply Average Maximum Minimum Concatenate Dot
    Attention AdditiveAttention MultiHeadAttention GroupQueryAttention
    RandomFlip RandomCrop RandomTranslation RandomRotation RandomZoom RandomContrast
    RandomBrightness TimeDistributed
    """
)
PARTS = {
    "keras": frozenset({"DTypePolicy", "DTypePolicyMap"}),
    "keras.dtype_policies": frozenset({"DTypePolicy", "DTypePolicyMap"}),
    "keras.initializers": _words(
        """
        Zeros Ones Constant Identity IdentityInitializer RandomNormal RandomUniform TruncatedNormal
        VarianceScaling GlorotNormal GlorotUniform HeNormal HeUniform LecunNormal LecunUniform
        Orthogonal OrthogonalInitializer
        """
    ),
    "keras.regularizers": frozenset({"L1", "L2", "L1L2", "OrthogonalRegularizer"}),
    "keras.constraints": frozenset({"MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm"}),
    "keras.random": frozenset({"SeedGenerator"}),
    "keras.src.random.seed_generator": frozenset({"SeedGenerator"}),
}
VALUES = frozenset({"__keras_tensor__", "__numpy__", "__tuple__", "__slice__", "__ellipsis__"})
ACTIVATIONS = _words(
    """
    celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu
    linear log_sigmoid log_softmax mish relu relu6 selu sigmoid silu swish soft_shrink softmax
    softplus softsign sparse_plus sparse_sigmoid sparsemax squareplus tanh tanh_shrink threshold
    """
)
SIZES = _words(
    """
    units filters kernel_size padding cropping size pool_size strides dilation_rate n target_shape
    output_shape output_size height width depth_multiplier num_heads key_dim value_dim head_dim
    num_query_heads num_key_value_heads groups
    """
)
KERNELS = {"Dense", "Conv1D", "Conv2D", "Conv3D"}  # layers whose kernel is counted exactly
# Layers that leave the last axis of their (first) input as it is.
SAME_WIDTH = _words(
    """
    Activation ReLU LeakyReLU PReLU ELU Softmax Identity Dropout Add Average Multiply Maximum
    Minimum Subtract Rescaling BatchNormalization LayerNormalization UnitNormalization
    """
)
ANOTHER = "only models made of Keras's own computing layers are loaded"


def check(config: dict[str, Any], weights: Path, *, classes: int) -> None:
    """Checks a saved model without loading it.

    Args:
        config: the content of `config.json`.
        weights: the file `model.weights.h5`.
        classes: how many outputs the model must have.

    Raises:
        InputError: an object of the configuration is not in our lists, its input is not
            (None, 32, 32, 3), its output is not (None, `classes`), it is too large, or the weights
            are not plain arrays inside the file.
    """
    config = {key: value for key, value in config.items() if key != "compile_config"}
    if not _is_model(config):
        raise InputError(f"config.json describes no Keras 3 model: {ANOTHER}")
    _check_objects(config)
    _check_shapes(config, classes)
    parameters = sum(_parameters(layer) for layer in _layers(config))
    if parameters > MAX_PARAMETERS:
        raise InputError(
            f"the model has {parameters:,} parameters: more than the {MAX_PARAMETERS:,} that are "
            "loaded"
        )
    _check_weights(weights)


def load(folder: Path, *, classes: int) -> keras.Model:
    """Loads a model that `check` has passed, uncompiled, in Keras's safe mode.

    Raises:
        InputError: Keras cannot read it, the weights do not fit, or the shapes are others.
    """
    import_quietly("keras")
    import keras

    try:
        model = keras.saving.load_model(folder, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises nearly everything for a file that does not fit
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"Keras {keras.__version__} cannot load the model in {folder}: {reason}"
        ) from error
    shapes = (tuple(model.input_shape), tuple(model.output_shape))
    if shapes != (INPUT_SHAPE, (None, classes)):
        raise InputError(
            f"the model in {folder} must map {INPUT_SHAPE} to (None, {classes}). "
            f"Received: {shapes[0]} to {shapes[1]}"
        )
    return model


def for_older_keras(config: Any) -> Any:
    """Returns a configuration without settings at their defaults that older Keras 3 stumbles over.

    A model that uses one of them keeps it, and needs the Keras that knows it.

    Args:
        config: the content of a `config.json`, or a part of it.
    """
    if isinstance(config, dict):
        return {
            key: for_older_keras(value)
            for key, value in config.items()
            if key not in NEWER_SETTINGS or value != NEWER_SETTINGS[key]
        }
    return [for_older_keras(item) for item in config] if isinstance(config, list) else config


def _is_model(node: Any) -> bool:
    return isinstance(node, dict) and (node.get("module"), node.get("class_name")) in MODELS


def _walk(node: Any, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Gives every key and value inside a JSON value, at any depth."""
    if depth > MAX_DEPTH:
        raise InputError("config.json is too deeply nested to be a model's")
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
        raise InputError(f"config.json describes {objects:,} objects: too many for a model here")


def _check_object(described: dict[str, Any]) -> None:
    """Refuses an object that Keras would build but that is not in our lists."""
    name, module = described.get("class_name"), described.get("module")
    if name in VALUES and module is None:
        return
    registered = described.get("registered_name")
    if name == "function":
        if module in ("builtins", "keras.activations") and described.get("config") in ACTIVATIONS:
            return
        raise InputError(f"the model uses the function {described.get('config')!r}: {ANOTHER}")
    if name in ("Lambda", "__lambda__"):
        raise InputError(f"the model has a Lambda layer, which holds code: {ANOTHER}")
    known = (
        (module, name) in MODELS
        or (module == "keras.layers" and name in LAYERS)
        or name in PARTS.get(str(module), ())
    )
    if not known or registered not in (None, name):
        shown = registered if isinstance(registered, str) and known else f"{module}.{name}"
        raise InputError(f"the model uses {shown}, which is not a layer of Keras: {ANOTHER}")


def _check_sizes(key: str, value: Any) -> None:
    for item in [value, *(inner for _, inner in _walk(value))]:
        if isinstance(item, (int, float)) and abs(item) > MAX_SIZE:
            raise InputError(f"the model has a layer with {key} {item}: too large to be loaded")


def _check_elements(shape: Any) -> None:
    plain = isinstance(shape, list) and all(item is None or type(item) is int for item in shape)
    if plain and math.prod(item for item in shape if item) > MAX_ELEMENTS:
        raise InputError(f"the model works on arrays of shape {shape}: too large to be loaded")


def _layers(model: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns all layers of a model, those of models inside of it included."""
    found = []
    for layer in _own_layers(model):
        found.append(layer)
        if _is_model(layer):
            found.extend(_layers(layer))
    if len(found) > MAX_LAYERS:
        raise InputError(f"the model has more than {MAX_LAYERS:,} layers")
    return found


def _own_layers(model: dict[str, Any]) -> list[dict[str, Any]]:
    content = model.get("config")
    layers = content.get("layers") if isinstance(content, dict) else None
    if not isinstance(layers, list) or not layers:
        raise InputError("config.json describes a model without layers: save it with Keras 3")
    if not all(
        isinstance(layer, dict) and isinstance(layer.get("config"), dict) for layer in layers
    ):
        raise InputError("config.json holds a layer without a configuration: save it with Keras 3")
    return layers


def _parameters(layer: dict[str, Any]) -> int:
    """Returns how many weights Keras will allocate for a layer, roughly, 0 if it has none."""
    settings, build = layer["config"], layer.get("build_config")
    shape = build.get("input_shape") if isinstance(build, dict) else None
    width = _last(shape)
    if layer["class_name"] in KERNELS:
        outputs = settings.get("units", settings.get("filters"))
        window = settings.get("kernel_size", 1)
        window = math.prod(window) if isinstance(window, list) else window
        if not all(type(value) is int for value in (width, outputs, window)):
            raise InputError(
                f"the size of the layer {settings.get('name')!r} is not stated in config.json: "
                "build the model and save it with Keras 3"
            )
        return width * outputs * window
    if layer["class_name"] in ("EinsumDense", "MultiHeadAttention", "GroupQueryAttention"):
        sizes = [value for key, item in settings.items() if key in SIZES for value in _whole(item)]
        return (width or 1) * math.prod(sizes)
    return 0


def _whole(value: Any) -> list[int]:
    items = value if isinstance(value, list) else [value]
    return [item for item in items if type(item) is int and item > 0]


def _last(shape: Any) -> int | None:
    return shape[-1] if isinstance(shape, list) and shape and type(shape[-1]) is int else None


def _check_shapes(config: dict[str, Any], classes: int) -> None:
    received = _input_shape(config)
    if received != list(INPUT_SHAPE):
        raise InputError(
            f"the model's input must be {INPUT_SHAPE}: 32×32 RGB images. Received: {received}"
        )
    width = _output_width(config)
    if width not in (None, classes):
        raise InputError(
            f"the model has {width} outputs and labels.json names {classes} classes: they must fit"
        )


def _input_shape(model: dict[str, Any]) -> Any:
    layers = _own_layers(model)
    entries = [layer for layer in layers if layer["class_name"] == "InputLayer"]
    named = _reference(model["config"].get("input_layers"))
    chosen = [layer for layer in entries if layer["config"].get("name") == named] or entries
    if len(chosen) != 1:
        build = model["config"].get("build_input_shape")
        return build if not chosen else f"{len(chosen)} inputs"
    return chosen[0]["config"].get("batch_shape")


def _output_width(model: dict[str, Any]) -> int | None:
    """Follows the output back to the layer that sets its width; None if that cannot be told."""
    layers = _own_layers(model)
    by_name = {layer["config"].get("name"): index for index, layer in enumerate(layers)}
    named = _reference(model["config"].get("output_layers"))
    index = by_name.get(named, len(layers) - 1)
    for _ in range(len(layers)):
        layer = layers[index]
        if _is_model(layer):
            return _output_width(layer)
        if layer["class_name"] == "Dense":
            units = layer["config"].get("units")
            return units if type(units) is int else None
        if layer["class_name"] not in SAME_WIDTH:
            return None
        previous = _source(layer)
        index = by_name.get(previous, index - 1) if previous or index else 0
    return None


def _source(layer: dict[str, Any]) -> str | None:
    """Returns the name of the layer that the first input comes from."""
    for key, value in _walk(layer.get("inbound_nodes")):
        if key == "keras_history":
            return _reference(value)
    return None


def _reference(history: Any) -> str | None:
    """Returns the layer's name out of `["name", 0, 0]` or `[["name", 0, 0]]`."""
    while isinstance(history, list) and history and isinstance(history[0], list):
        history = history[0]
    name = history[0] if isinstance(history, list) and history else None
    return name if isinstance(name, str) else None


def _check_weights(path: Path) -> None:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            values = sum(dataset.size for dataset in _datasets(file))
    except InputError:
        raise
    except Exception as error:  # a damaged file makes h5py raise OSError, RuntimeError, KeyError …
        raise InputError(f"{path} is damaged or no HDF5 file ({error}): get it again") from error
    if not values:
        raise InputError(f"{path} holds no weights: save the model again")
    if values > MAX_PARAMETERS:
        raise InputError(f"{path} holds {values:,} numbers: more than {MAX_PARAMETERS:,}")


def _datasets(group: h5py.Group, depth: int = 0) -> Iterator[h5py.Dataset]:
    """Gives the arrays in a file; refuses what leads out of it or is no plain array of numbers."""
    import h5py

    if depth > MAX_DEPTH:
        raise InputError(f"{group.file.filename} is too deeply nested to hold weights")
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise InputError(f"{group.file.filename} holds a link, {name!r}: it is not loaded")
        item = group[name]
        if isinstance(item, h5py.Group):
            yield from _datasets(item, depth + 1)
            continue
        if not isinstance(item, h5py.Dataset) or item.is_virtual or item.external:
            raise InputError(
                f"{group.file.filename} holds {name!r}, whose numbers lie in another file: it is "
                "not loaded"
            )
        if item.dtype.kind not in "fiubV" or item.dtype.hasobject:
            raise InputError(f"{group.file.filename} holds {name!r} of type {item.dtype}")
        yield item
