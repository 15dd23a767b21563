"""Writes the model folder of a trained network: calibrates, saves, describes and evaluates it."""

import datetime
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras

from classifier import provenance
from classifier.architectures.flops import flops_per_image
from classifier.files import write_atomically
from classifier.hub import card
from classifier.model_folder.folder import HISTORY, RUNS, TRAINING, ModelFolder
from classifier.prediction.confidence import choose_threshold
from classifier.training import precision, saving
from classifier.training.calibration import calibrate
from classifier.training.checkpoints import RunState
from classifier.training.distillation import Teacher
from classifier.training.distribution import ALONE, ProcessGroup
from classifier.training.fit import VALIDATION_BATCH
from classifier.training.resuming import top1
from classifier.training.run_folder import RECORD, Run
from classifier.training.training_data import TrainingData, class_names

OF_TEACHER = ("settings", "init_from", "teacher", "wall_seconds")  # what is recorded of it


def finish(
    run: Run,
    network: keras.Model,
    state: RunState,
    data: TrainingData,
    *,
    evaluate: Callable[[ModelFolder], object],
    group: ProcessGroup = ALONE,
) -> None:
    """Writes the model folder of a run atomically.

    Args:
        run, data, group: of the training.
        network: trained, in any precision.
        state: after the last epoch.
        evaluate: adds the files of the evaluation to a model folder.
    """
    settings = run.settings
    teacher, others = None, []
    if settings.average_teacher:
        identity = json.loads((run.folder / RECORD).read_text(encoding="utf-8"))["teacher"]
        teacher = Teacher(settings, data.split, identity)
        others = teacher.networks()
    mean, deviation = data.mean, data.deviation
    model = saving.exportable(network, settings, mean=mean, deviation=deviation, others=others)
    fitted = calibrate(model, data.validation) if settings.calibrate else None
    training = describe(run, model, state, data)
    calibration = fitted._asdict() if fitted else {"temperature": None}
    training["temperature"] = calibration.pop("temperature")
    training["calibration"] = calibration or None
    if teacher:
        training["teacher"] = {key: teacher.folder.training.get(key) for key in OF_TEACHER}
    if group.devices:
        training["distributed"] = {"processes": group.world_size, "devices": group.devices}

    def write(folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        saving.save_model(model, folder, half=settings.store_half)
        class_names(data.split).write(folder)
        saving.write_history(state.rows, folder / HISTORY)
        if (events := run.folder / "tensorboard").exists():
            shutil.copytree(events, folder / RUNS)
        text = json.dumps(training, indent=2, ensure_ascii=False, allow_nan=False)
        (folder / TRAINING).write_text(text + "\n", encoding="utf-8")
        written = ModelFolder(folder)
        evaluate(written)
        if run.dataset_id:
            card.name_dataset(written, run.dataset_id)
        card.write(written)

    write_atomically(run.model, write)


def describe(run: Run, model: keras.Model, state: RunState, data: TrainingData) -> dict[str, Any]:
    """Returns the content of `training.json` for the exported model."""
    settings, validation = run.settings, data.validation
    probabilities = model.predict(validation.images, batch_size=VALIDATION_BATCH, verbose=0)
    confidence = choose_threshold(probabilities, validation.targets.argmax(axis=1))
    return {
        "preset": settings.preset,
        "settings": settings.to_dict(),
        "seed": settings.seed,
        "precision": precision.resolve(settings.precision),
        "epochs_run": len(state.rows),
        "best_epoch": state.best_epoch,
        "wall_seconds": round(state.seconds, 1),
        "dataset": {
            "id": data.split.dataset,
            "revision": data.split.revision,
            "fingerprint": data.split.fingerprint,
            "training_images": len(data.training.images),
            "validation_images": len(validation.images),
            **run.source.options(),
            # Also a share that was not given: evaluations find the same images again.
            "test_fraction": data.test.test_fraction,
        },
        "init_from": run.init_from
        and {
            "source": run.init_from["name"],
            "revision": run.init_from["revision"],
            "wall_seconds": run.init_from.get("wall_seconds"),
        },
        "git_commit": provenance.git_commit(),
        "versions": provenance.library_versions(),
        "machine": provenance.machine(),
        "parameters": model.count_params(),
        "flops_per_image": flops_per_image(model),
        "train_top1": top1(model, data.training),
        "validation_top1": top1(model, validation),
        "confidence": confidence and asdict(confidence),
        "command": run.command,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
