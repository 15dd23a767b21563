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

from classifier import command_line
from classifier.convert import check_libraries
from classifier.data.source import DEFAULT_DATASET, DataSource
from classifier.environment import import_quietly
from classifier.errors import InputError
from classifier.hub.dataset_id import check_dataset_id, name_dataset
from classifier.training import fine_tuning
from classifier.training.distribution import ALONE, ProcessGroup, read_process_group
from classifier.training.options import choose_settings, parse
from classifier.training.run_folder import Run, open_run
from classifier.training.training_data import TrainingData, load_training_data


def main(arguments: list[str]) -> None:
    """Trains, resumes or publishes, depending on the command line."""
    options = parse(arguments)
    if options.with_onnx:
        check_libraries("onnx")
    if options.source:
        publish(options.source, options)
        return
    settings, given, init_from = choose_settings(options)
    group = read_process_group() if options.distributed else ALONE
    new_run = Run(
        Path(options.output or Path("runs") / settings.preset),
        settings,
        options.dataset or DEFAULT_DATASET,
        options.label_column,
        options.dataset_id,
        init_from=init_from,
    )
    with open_run(
        new_run,
        resume=options.resume,
        given=given,
        # A cluster repeats the command when it requeues a job: --resume may start a run there.
        start=options.distributed or not options.resume,
        is_chief=group.is_chief,
    ) as run:
        if run.complete:
            print(f"The run in {run.folder} is complete.")
        else:
            train(run, group, distributed=options.distributed)
        if group.is_chief:
            print(f"Model folder: {run.model}")
            if options.push:
                publish(str(run.model), options)


def train(run: Run, group: ProcessGroup = ALONE, *, distributed: bool = False) -> None:
    """Trains a model and writes its model folder."""
    settings = run.settings
    origin = run.init_from and fine_tuning.Origin.find(
        str(run.init_from["source"]), run.init_from["revision"]
    )
    print(f"Loading {run.dataset} …", flush=True)
    data = load_training_data(DataSource(run.dataset, run.label_column), settings)
    if run.dataset_id:
        check_dataset_id(run.dataset_id, data.split.dataset, data.split.revision)
    for remark in data.remarks:
        print(remark, flush=True)
    run.check_data(data.split)
    if distributed:
        group = group.join(
            settings.batch_size, {**settings.to_dict(), "data set": data.split.fingerprint}
        )

    # Keras takes seconds to import: wrong input is refused before.
    import_quietly("keras")
    import keras

    from classifier.architectures import build_network
    from classifier.architectures.local_start import start_from_patches
    from classifier.training import precision
    from classifier.training.distillation import epoch_images
    from classifier.training.fast_convolution import accelerate
    from classifier.training.finish import finish
    from classifier.training.fit import fit

    number_format = precision.resolve(settings.precision)
    precision.set_policy(number_format)
    keras.utils.set_random_seed(settings.seed)
    start = origin.load(settings) if origin else None
    if start:
        data = dataclasses.replace(data, mean=start.mean, deviation=start.deviation)
    build = functools.partial(
        build_network,
        settings,
        classes=len(data.split.classes),
        mean=data.mean,
        deviation=data.deviation,
    )
    network = build()
    new_layer = start.give_weights(network, data.split.classes) if start else False
    if start:
        layers = "all layers but the last (other classes)" if new_layer else "all layers"
        print(f"Starting from the weights of {start.origin.source}: {layers}", flush=True)
    elif settings.local_maps and not settings.tied:
        print(
            "Warning: the first layers start as convolutions with random weights. For trained "
            "ones, train the preset mlp-tied first: --init-from runs/mlp-tied",
            flush=True,
        )
    else:
        start_from_patches(network, data.training.images, settings)
    network = accelerate(network)
    load_epoch, augmentation = epoch_images(data, settings)
    if group.is_chief:
        run.start(data.split)
    print(
        f"Training {settings.preset}: {network.count_params():,} parameters in {number_format} on "
        f"{len(data.training.images):,} images, validated on {len(data.validation.images):,}"
        f"{group.describe()}",
        flush=True,
    )
    with run.resumable(distributed=distributed):
        fit_network = functools.partial(
            fit,
            network,
            load_training=load_epoch,
            validation=data.validation,
            augmentation=augmentation,
            group=group,
        )
        frozen = None
        if new_layer and settings.freeze_epochs:
            frozen = fine_tuning.train_last_layer(
                network,
                settings,
                functools.partial(fit_network, checkpoints=run.checkpoints / "last-layer"),
            )
        state = fit_network(settings, checkpoints=run.checkpoints, tensorboard=run.tensorboard)
        if frozen:
            state.prepend(frozen)
        if group.devices:  # the first process does the rest alone, on an undistributed network
            weights = network.get_weights()
            group.leave()
            network = build()
            network.set_weights(weights)
        if group.is_chief:
            evaluate = functools.partial(evaluate_on_test, data=data)
            finish(run, network, state, data, evaluate=evaluate, group=group)


def evaluate_on_test(folder: Path, data: TrainingData) -> None:
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
    from classifier import hub
    from classifier.convert import convert
    from classifier.hub import card
    from classifier.hub.sources import local_folder
    from classifier.model_folder.folder import ONNX
    from evaluation import report

    folder = local_folder(source)
    if folder is None:
        raise InputError(f"--from {source}: there is no such folder. Name a model or run folder")
    measure = functools.partial(
        report.measure_again, folder, options.dataset, label_column=options.label_column
    )
    if options.source and options.dataset_id:
        name_dataset(folder, options.dataset_id)
        card.write(folder, compare=card.others(folder))
    if options.with_onnx:
        folder.check(complete=True)
        print(convert(folder, "onnx", folder.path / ONNX))
        card.write(folder, compare=card.others(folder))
    publication = hub.publish(
        folder,
        repo_id=options.repo_id,
        recomputed=functools.partial(report.recompute, folder),
        measured=measure if options.source and options.dataset else None,
        private=options.private,
        branch=options.branch,
        create_pr=options.create_pr,
        tag=options.tag,
        force=options.force,
    )
    print(publication)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
