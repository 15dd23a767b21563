"""Checks of a model folder before it is uploaded to the Hub."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from classifier.errors import InputError
from classifier.hub_client import is_transient, with_retries
from classifier.model_folder.folder import CARD, EVALUATION, ModelFolder

TOLERANCE = 1e-3  # the largest difference between two figures that is accepted as rounding
NEEDED_METADATA = ("license", "library_name", "pipeline_tag")
Figures = Callable[[], Mapping[str, Any]]


def check_figures(folder: ModelFolder, figures: Figures, source: str, *, deep: bool) -> None:
    """Checks `evaluation.json` against recomputed figures.

    Args:
        folder: the model folder.
        figures: returns recomputed figures in the format of `evaluation.json`.
        source: their source, for the message: "predictions.npz gives".
        deep: whether to compare tables too (classes, confusion matrix).

    Raises:
        InputError: with the first figure that differs by more than 0.001.
    """
    stated = dict(_numbers(folder.evaluation or {}))
    found = dict(_numbers(figures()))
    if "top1" not in found:
        raise InputError(f"{folder.path} has no predictions to recompute {EVALUATION} from")
    for name, value in found.items():
        if not deep and "[" in name:
            continue
        claim = stated.get(name)
        if claim is None or abs(claim - value) > TOLERANCE:
            raise InputError(
                f"{EVALUATION} states {name} = {claim}, and {source} {value:.6g}: evaluate the "
                "model again with `python -m evaluation`"
            )


def check_card(folder: ModelFolder) -> None:
    """Checks the card's metadata, locally and with the Hub's validator; raises `InputError`."""
    from huggingface_hub import ModelCard

    try:
        card = ModelCard(folder.card or "", ignore_metadata_errors=False)
    except Exception as error:  # YAML errors; malformed results can raise anything
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"the metadata of {folder.path / CARD} cannot be read ({reason}): write the card again"
        ) from error
    data = card.data
    missing = [name for name in NEEDED_METADATA if not data.get(name)]
    if missing or not data.get("eval_results"):
        raise InputError(
            f"the metadata of {folder.path / CARD} lacks {', '.join(missing) or 'model-index'}: "
            "write the card again"
        )
    try:
        with_retries(card.validate)
    except ValueError as error:
        if is_transient(error):
            raise
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"the Hub refuses the metadata of the card: {reason}") from error


def check_model(folder: ModelFolder) -> None:
    """Checks that the weights load and that the model returns probabilities for an image."""
    import numpy as np

    model = folder.load_model()
    shape = (1, *model.input_shape[1:])
    ramp = np.linspace(0, 255, math.prod(shape)).reshape(shape).astype("float32")
    answer = np.asarray(model.predict_on_batch(ramp), "float32")
    if not np.isfinite(answer).all() or abs(float(answer.sum()) - 1) > 1e-2:
        raise InputError(
            f"the model in {folder.path} does not return probabilities: its weights "
            "are damaged; train it again"
        )


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Yields every number in a JSON value with its path, such as `per_class[3].f1`."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _numbers(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _numbers(item, f"{name}[{index}]")
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        yield name, float(value)
