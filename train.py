"""Trains an image classifier, evaluates it, writes its model folder and publishes it.

python train.py --preset mlp-baseline
python train.py --preset cnn --dataset path/to/images --output runs/mine
python train.py --output runs/mine --resume
python train.py --init-from pretrained/cnn --dataset path/to/images --output runs/mine
python train.py --preset mlp-tied --distributed
python train.py --push --from runs/mine --repo-id user/name
"""

import argparse
import dataclasses
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from classifier import command_line
from classifier.data.source import DataSource
from classifier.environment import import_quietly
from classifier.errors import InputError
from classifier.hub.card import check_dataset_id, name_dataset
from classifier.training.distribution import ALONE, ProcessGroup, read_process_group
from classifier.training.fine_tuning import InitialModel, last_layer_only, last_layer_settings
from classifier.training.options import choose_settings, parse
from classifier.training.run_folder import Run, open_run
from classifier.training.training_data import TrainingData, load_training_data

if TYPE_CHECKING:
    import keras

    from classifier.model_folder.folder import ModelFolder
    from classifier.training.checkpoints import RunState


def main(arguments: list[str]) -> None:
    """Trains, resumes or publishes, depending on the command line."""
    options = parse(arguments)
    if options.source:
        publish(options.source, options)
        return
    settings, given, init_from = choose_settings(options)
    group = read_process_group() if options.distributed else ALONE
    folder = Path(options.output or Path("runs") / settings.preset)
    data_source = DataSource.from_options(options)
    new_run = Run(folder, settings, data_source, options.dataset_id, init_from=init_from)
    # A cluster repeats the command when it requeues a job: --resume may start a run there.
    may_start = options.distributed or not options.resume
    with open_run(
        new_run, resume=options.resume, given=given, may_start=may_start, is_chief=group.is_chief
    ) as run:
        if run.model.is_dir():
            print(f"The run in {run.folder} is complete.")
        else:
            train(run, group, distributed=options.distributed)
        if group.is_chief:
            print(f"Model folder: {run.model}")
            if options.push:
                publish(str(run.model), options)


def train(run: Run, group: ProcessGroup = ALONE, *, distributed: bool = False) -> None:
    """Trains a model and writes its model folder: data, network, fit, evaluation."""
    settings = run.settings
    data = load_data(run)
    import_quietly("keras")  # takes seconds: wrong input is refused before
    from classifier.architectures import build_network
    from classifier.training import precision
    from classifier.training.finish import finish

    if distributed:
        group = group.join(settings.batch_size)
        plan = {**settings.to_dict(), "precision": precision.resolve(settings.precision)}
        group.check_same({**plan, "data set": data.split.fingerprint})
    precision.prepare(settings)
    with run.resumable(distributed=distributed):
        initial = None
        if run.init_from:
            initial = InitialModel(run.init_from, run.checkpoints / "initial.weights.h5", settings)
            data = dataclasses.replace(data, mean=initial.mean, deviation=initial.deviation)
        build = functools.partial(
            build_network,
            settings,
            classes=len(data.split.classes),
            mean=data.mean,
            deviation=data.deviation,
        )
        network = build()
        initialise(network, run, data, initial, group)
        state = fit_network(network, run, data, initial, group)
        if group.devices:  # the first process does the rest alone, on an undistributed network
            weights = network.get_weights()
            group.leave()
            network = build()
            network.set_weights(weights)
        if group.is_chief:
            evaluate = functools.partial(evaluate_on_test, data=data)
            finish(run, network, state, data, evaluate=evaluate, group=group)


def load_data(run: Run) -> TrainingData:
    """Loads the data set, and refuses another one than the run began with."""
    print(f"Loading {run.source.dataset} …", flush=True)
    data = load_training_data(run.source, run.settings)
    if run.dataset_id:
        check_dataset_id(run.dataset_id, data.split.dataset, data.split.revision)
    for remark in data.remarks:
        print(remark, flush=True)
    run.check_data(data.split)
    return data


def initialise(
    network: "keras.Model",
    run: Run,
    data: TrainingData,
    initial: InitialModel | None,
    group: ProcessGroup,
) -> None:
    """Gives the network its initial weights; refuses a model that could not be written."""
    from classifier.architectures.local_start import start_from_patches
    from classifier.training.saving import check_exportable

    settings = run.settings
    if initial:
        initial.initialise(network, data.split.classes)
        layers = "all layers but the last (other classes)" if initial.new_layer else "all layers"
        print(f"Starting from the weights of {initial.record['source']}: {layers}", flush=True)
    elif settings.local_maps and not settings.tied:
        print(
            "Warning: the first layers start as convolutions with random weights. For trained "
            "ones, train the preset mlp-tied first: --init-from runs/mlp-tied",
            flush=True,
        )
    else:
        start_from_patches(network, data.training.images, settings)
    if group.is_chief:
        check_exportable(network)


def fit_network(
    network: "keras.Model",
    run: Run,
    data: TrainingData,
    initial: InitialModel | None,
    group: ProcessGroup,
) -> "RunState":
    """Trains the network, or resumes its training, and copies the weights into it."""
    from classifier.training import precision
    from classifier.training.distillation import distill
    from classifier.training.fast_convolution import accelerate
    from classifier.training.resuming import event_files, fit_or_resume

    trained, settings = accelerate(network), run.settings
    images, settings_of_batches, teacher = distill(data, settings, run.teacher)
    if group.is_chief:
        if initial:
            initial.keep(network)
        run.write_record(data.split, teacher)
    print(
        f"Training {settings.preset}: {network.count_params():,} parameters "
        f"({precision.describe(settings.precision)}) on {len(data.training.images):,} images, "
        f"validated on {len(data.validation.images):,}{group.describe()}",
        flush=True,
    )
    fit = functools.partial(fit_or_resume, trained, images, group=group)
    frozen = None
    if initial and initial.new_layer and settings.freeze_epochs:
        with last_layer_only(trained):
            frozen = fit(last_layer_settings(settings_of_batches), run.checkpoints / "last-layer")
    callbacks = event_files(run.folder / "tensorboard")
    state = fit(settings_of_batches, run.checkpoints, further_callbacks=callbacks)
    if frozen:
        state.prepend(frozen)
    network.set_weights(trained.get_weights())
    return state


def evaluate_on_test(folder: "ModelFolder", data: TrainingData) -> None:
    """Evaluates a model folder on the test split and prints the main results."""
    from evaluation import report

    print("Evaluating on the test split …", flush=True)
    evaluation = report.evaluate(folder, data.test, training_split=data.split)
    low, high = evaluation["top1_interval"]
    print(
        f"Test top-1 {evaluation['top1']:.2%} (95% interval {low:.2%} to {high:.2%}), "
        f"top-5 {evaluation['top5']:.2%}"
    )


def publish(source: str, options: argparse.Namespace) -> None:
    """Uploads a model folder to the Hub in one commit, after its results have been verified."""
    from classifier.convert import convert
    from classifier.hub import card, publishing
    from classifier.hub.sources import local_folder
    from classifier.model_folder.folder import CARD, ONNX
    from evaluation import report

    folder = local_folder(source)
    if folder is None:
        raise InputError(f"--from {source}: there is no such folder. Name a model or run folder")
    measured = options.source and options.dataset
    named = options.source and options.dataset_id
    if named or options.with_onnx:
        folder.check(complete=True)
        is_generated = folder.card == card.generate(folder)
        if named:
            name_dataset(folder, options.dataset_id)
        if options.with_onnx:
            convert(folder, "onnx", folder.path / ONNX)
        if is_generated:
            card.write(folder)
        else:
            print(f"{folder.path / CARD} is not the generated card and stays as it is: complete it")
    upload = publishing.publish(
        folder,
        repo_id=options.repo_id,
        recomputed=functools.partial(report.recompute, folder),
        measured=functools.partial(report.measure_again, folder, options) if measured else None,
        private=options.private,
        branch=options.branch,
        create_pr=options.create_pr,
        tag=options.tag,
        force=options.force,
    )
    print(upload)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
