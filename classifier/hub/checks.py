"""Checks of a model folder before it is uploaded to the Hub."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from classifier import provenance
from classifier.errors import InputError
from classifier.model_folder.folder import CARD, EVALUATION, ModelFolder

if TYPE_CHECKING:
    from huggingface_hub import ModelCard

TOLERANCE = 1e-3  # the largest difference between two figures that is accepted as rounding
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
    """Checks a model card; the Hub validates its metadata again when it is committed.

    Raises:
        InputError: its metadata cannot be read, it states other figures than `evaluation.json`, or
            it names a path of this machine.
    """
    from huggingface_hub import ModelCard

    path = folder.path / CARD
    again = "write the card again: " + shlex.join(
        ["python", "-m", "classifier.hub.card", str(folder.path)]
    )
    try:
        card = ModelCard(folder.card or "", ignore_metadata_errors=False)
    except Exception as error:  # YAML errors; malformed results can raise anything
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"the metadata of {path} cannot be read ({reason}): {again}") from error
    for name, stated, value in _stated_figures(card, folder.evaluation or {}):
        if stated != value:
            raise InputError(f"{path} states {name} {stated}, and {EVALUATION} {value}: {again}")
    public = provenance.without_local_paths(folder.training)
    for text, shared in zip(_texts(folder.training), _texts(public), strict=True):
        if text != shared and text in card.text:
            raise InputError(f"{path} names {text}, a path of this machine: {again}")


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


def _stated_figures(
    card: ModelCard, evaluation: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    """Yields the figures of a card and of `evaluation.json`: name, both values."""
    from classifier.hub.card import METADATA_RESULTS, RESULTS, results  # is a command, too

    names = {key: name for key, name, _ in RESULTS}
    stated: Any = card.data
    for key, kind in METADATA_RESULTS.items():
        for result in stated.eval_results or []:
            if result.metric_type == kind:
                yield f"model-index: {names[key]}", result.metric_value, evaluation.get(key)
    table = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", card.text, re.MULTILINE))
    for name, value in results(evaluation):
        yield name, table.get(name, value), value  # a card of one's own may have other tables


def _texts(record: Any) -> Iterator[str]:
    if isinstance(record, str):
        yield record
    elif isinstance(record, (dict, list)):
        for value in record.values() if isinstance(record, dict) else record:
            yield from _texts(value)


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
