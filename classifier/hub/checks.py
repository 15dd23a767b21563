"""Checks of a model folder before it is uploaded to the Hub."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from classifier import provenance
from classifier.errors import InputError
from classifier.model_folder.folder import CARD, EVALUATION, ModelFolder

TOLERANCE = 1e-3  # the largest difference between two figures that is accepted as rounding
Figures = Callable[[], Mapping[str, Any]]


def check_figures(folder: ModelFolder, figures: Mapping[str, Any], source: str) -> None:
    """Checks the figures of `evaluation.json`, without those of single classes.

    Args:
        folder: the model folder.
        figures: recomputed, in the format of `evaluation.json`.
        source: their source, for the message: "predictions.npz gives".

    Raises:
        InputError: with the first figure that differs by more than 0.001.
    """
    stated = folder.evaluation or {}
    for name, value in figures.items():
        claim = stated.get(name)
        if not isinstance(value, float):
            continue  # counts, names and tables
        if not isinstance(claim, (int, float)) or not abs(claim - value) <= TOLERANCE:
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
    import pandas as pd
    from huggingface_hub import ModelCard

    from classifier.hub.card import METADATA_RESULTS, results  # is a command, too

    path, evaluation = folder.path / CARD, folder.evaluation or {}
    again = "write the card again: " + shlex.join(
        ["python", "-m", "classifier.hub.card", str(folder.path)]
    )
    try:
        card = ModelCard(folder.card or "", ignore_metadata_errors=False)
    except Exception as error:  # YAML errors; malformed results can raise anything
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"the metadata of {path} cannot be read ({reason}): {again}") from error
    metadata: Any = card.data
    stated = {result.metric_type: result.metric_value for result in metadata.eval_results or []}
    stated |= re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", card.text, re.MULTILINE)
    expected = {kind: evaluation.get(key) for key, kind in METADATA_RESULTS.items()}
    for name, value in (expected | dict(results(evaluation))).items():
        if stated.get(name, value) != value:  # a card of one's own may have other tables
            raise InputError(
                f"{path} states {name} {stated[name]}, and {EVALUATION} {value}: {again}"
            )
    records = [folder.training, provenance.without_local_paths(folder.training)]
    for text, public in pd.json_normalize(records).T.itertuples(index=False):
        if isinstance(text, str) and text != public and text in card.text:
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
