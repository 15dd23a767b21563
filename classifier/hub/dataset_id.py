"""The Hub id of a model's data set, for the model card."""

from __future__ import annotations

import json
from typing import Any

from classifier.errors import InputError
from classifier.files import write_text
from classifier.hub_client import check_repo_id, is_hub_id
from classifier.model_folder.folder import EVALUATION, LABELS, TRAINING, ModelFolder

# Local copies are recognised by the fingerprints of their splits at 32×32 pixels.
KNOWN_FINGERPRINTS = {
    "7b0fbb77ff59ea4f0e5a818b7163a407": "uoft-cs/cifar100",  # train
    "be58d7b9916922c6f1f404ff86093908": "uoft-cs/cifar100",  # test
}


def hub_dataset(name: str | None, revision: str | None, fingerprint: str | None) -> str | None:
    """Returns the Hub id of a data set from its record in a model folder, None if it has none.

    Args:
        name: the id on the Hub, or the name of a folder.
        revision: the commit on the Hub, None for a folder.
        fingerprint: the fingerprint of the split.
    """
    if str(fingerprint) in KNOWN_FINGERPRINTS:
        return KNOWN_FINGERPRINTS[str(fingerprint)]
    # A name without a slash may be a folder that is named like an unrelated data set on the Hub.
    on_the_hub = bool(name) and (revision is not None or "/" in str(name))
    return name if on_the_hub and is_hub_id(str(name)) else None


def check_dataset_id(dataset_id: str, name: str | None, revision: str | None) -> None:
    """Raises InputError if the value of `--dataset-id` is invalid or contradicts the record.

    `name` and `revision` are those of `hub_dataset`.
    """
    check_repo_id(dataset_id, "--dataset-id")
    if revision is not None and name != dataset_id:
        raise InputError(
            f"--dataset-id {dataset_id}: the data set is {name} on the Hub, not a local copy: "
            "leave the option out"
        )


def name_dataset(folder: ModelFolder, dataset_id: str) -> None:
    """Writes the Hub id of the data set into a model folder that was trained on a local copy.

    Its card is not updated. Raises the errors of `check_dataset_id`.
    """
    recorded = folder.training.get("dataset") or {}
    before = recorded.get("id")
    check_dataset_id(dataset_id, before, recorded.get("revision"))
    changes: dict[str, Any] = {TRAINING: {**recorded, "id": dataset_id}, LABELS: dataset_id}
    if folder.evaluation and folder.evaluation.get("dataset") == before:
        changes[EVALUATION] = dataset_id
    for name, dataset in changes.items():
        path = folder.path / name
        content = {**json.loads(path.read_text(encoding="utf-8")), "dataset": dataset}
        write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
