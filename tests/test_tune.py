"""`python tune.py`: samplers, results, resuming, and invalid calls."""

import json
import os
import signal
import sqlite3
import threading
import time
from pathlib import Path
from typing import ClassVar

import optuna
import pandas as pd
import pytest
import yaml

import train
import tune
from classifier import command_line
from classifier.data.source import DataSource
from classifier.errors import InputError
from classifier.presets import PRESETS, load_preset, preset_names
from classifier.search import storage as storages
from classifier.search.search_space import SHARED, UNUSED, WEIGHTS, load_search_space
from classifier.settings import Settings
from classifier.training.training_data import load_training_data
from conftest import PROJECT

PRESET = {"hidden_units": [8], "batch_size": 108, "epochs": 2, "precision": "float32"}
SPACE = {
    "learning_rate": {"low": 0.01, "high": 0.1, "log": True},
    "dropout": [0.0, 0.1],
    "hidden_units": [[8], [8, 8]],
}
COMPLETE, PRUNED = optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED
FAIL = optuna.trial.TrialState.FAIL
PLOTS = {"history.png", "importance.png", "parallel_coordinates.png"}


def write(folder: Path, search: object, **changes: object) -> Path:
    """Writes a preset of a tiny network with this search space."""
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**PRESET, **changes, "search": search}))
    return path


def call(preset: Path, dataset: Path, output: Path, sampler: str, trials: int, *more: str) -> int:
    """Runs the command in this process, where Keras is imported already."""
    arguments = ["--preset", str(preset), "--dataset", str(dataset), "--output", str(output)]
    arguments += ["--sampler", sampler, "--trials", str(trials), *more]
    return command_line.run(tune.main, arguments)


def trials_of(url: str, name: str = "tiny") -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=name, storage=url).trials


@pytest.fixture(scope="module")
def searched(tmp_path_factory, small_dataset) -> Path:
    """The folder of a TPE search of three trials, which has written its preset."""
    folder = tmp_path_factory.mktemp("searched")
    preset = write(folder, SPACE, dropout=0.1, learning_rate=0.02)
    more = [
        "--write-preset",
        str(folder / "best.yaml"),
        "--storage",
        f"sqlite:///{folder}/study.db",
    ]
    assert call(preset, small_dataset, folder, "tpe", 3, *more) == 0
    return folder


def test_search_writes_table_plots_and_summary(searched):
    names = {path.name for path in searched.iterdir()}
    files = {"trials.csv", "study.json", "study.db", "tiny.yaml", "best.yaml"}
    # Optuna draws the other plots only of trials that differ in every setting.
    assert files | {"history.png"} <= names <= files | PLOTS
    study = json.loads((searched / "study.json").read_text())
    rows = pd.read_csv(searched / "trials.csv")
    best = rows.loc[rows["value"].idxmax()]
    assert list(rows["state"]) == ["COMPLETE"] * 3
    assert study["best"]["validation_top1"] == best["value"]
    assert study["best"]["hidden_units"] == best["params_hidden_units"]
    assert study["result"].startswith("3 complete and 0 pruned trials; the best is trial ")
    assert "of the unchanged preset." in study["result"]
    for name in names & PLOTS:
        assert (searched / name).read_bytes().startswith(b"\x89PNG")


def test_written_files_do_not_name_folders_of_this_machine(searched):
    for name in ("study.json", "best.yaml"):
        text = (searched / name).read_text()
        assert "python tune.py --preset tiny.yaml" in text
        assert "--storage sqlite:///study.db" in text
        assert str(searched) not in text


def test_first_trial_is_the_unchanged_preset(searched):
    first = trials_of(f"sqlite:///{searched}/study.db")[0]
    assert first.params == {"learning_rate": 0.02, "dropout": 0.1, "hidden_units": "[8]"}


def test_train_takes_the_written_preset_and_reaches_what_it_states(searched, small_dataset):
    path, run = searched / "best.yaml", searched.with_name("trained")
    best = json.loads((searched / "study.json").read_text())["best"]
    assert f"Reaches {best['validation_top1']:.2%} top-1" in path.read_text()
    settings = load_preset(path)
    assert settings.learning_rate == best["learning_rate"]
    assert list(settings.hidden_units) == json.loads(best["hidden_units"])

    arguments = ["--preset", str(path), "--dataset", str(small_dataset), "--output", str(run)]
    assert command_line.run(train.main, arguments) == 0
    training = json.loads((run / "model" / "training.json").read_text())
    assert training["validation_top1"] == best["validation_top1"]


def test_same_command_resumes_a_study_and_repeats_no_trial(searched, small_dataset, capsys):
    before = trials_of(f"sqlite:///{searched}/study.db")
    assert call(searched / "tiny.yaml", small_dataset, searched, "tpe", 3) == 0
    assert "Trial " not in capsys.readouterr().out
    assert call(searched / "tiny.yaml", small_dataset, searched, "tpe", 4) == 0
    after = trials_of(f"sqlite:///{searched}/study.db")
    assert len(after) == 4
    assert [t.datetime_complete for t in after[:3]] == [t.datetime_complete for t in before]
    assert len({t.params["learning_rate"] for t in after}) == 4, "a resumed sampler repeats itself"

    assert call(searched / "tiny.yaml", small_dataset, searched, "tpe", 4, "--epochs", "1") == 2
    assert "has epochs 2, not 1: use the same options as before, or" in capsys.readouterr().err


def test_grid_tries_each_cell_once_and_prunes_poor_trials(tmp_path, small_dataset):
    rates = [0.08, 0.07, 0.06, 0.05, 0.04, 1e-6, 1e-7, 1e-8]
    preset = write(tmp_path, {"learning_rate": rates}, batch_size=27)
    assert call(preset, small_dataset, tmp_path, "grid", 100) == 0
    trials = trials_of(f"sqlite:///{tmp_path}/study.db")
    assert sorted(trial.params["learning_rate"] for trial in trials) == sorted(rates)
    pruned = [trial for trial in trials if trial.state == PRUNED]
    assert pruned
    assert {trial.state for trial in trials} == {COMPLETE, PRUNED}
    assert all(trial.last_step == 1 for trial in pruned)
    assert max(t.value for t in pruned) < max(t.value for t in trials)


def test_trials_that_diverge_count_as_pruned(tmp_path, small_dataset, capsys):
    preset = write(tmp_path, {"learning_rate": [1e30, 1e29, 0.05]})
    best = tmp_path / "best.yaml"
    assert call(preset, small_dataset, tmp_path, "grid", 4, "--write-preset", str(best)) == 0
    trials = trials_of(f"sqlite:///{tmp_path}/study.db")
    assert sorted(trial.state for trial in trials) == sorted([COMPLETE, PRUNED, PRUNED])
    assert load_preset(best).learning_rate == 0.05
    assert "diverged" in capsys.readouterr().out


@pytest.mark.parametrize("sampler", ["grid", "random"])
def test_ctrl_c_puts_the_trial_back_into_the_queue(tmp_path, small_dataset, capsys, sampler):
    preset = write(tmp_path, {"dropout": [0.0, 0.2]}, epochs=5000)
    url = f"sqlite:///{tmp_path}/study.db"

    def interrupt() -> None:
        while not any(trial.intermediate_values for trial in trials_of(url)):
            time.sleep(0.05)
        signal.raise_signal(signal.SIGINT)

    storages.open_storage(url)
    optuna.create_study(study_name="tiny", storage=url, direction="maximize")
    threading.Thread(target=interrupt, daemon=True).start()
    assert call(preset, small_dataset, tmp_path, sampler, 2) == 130
    assert "the same command resumes it" in capsys.readouterr().out
    stopped, queued = trials_of(url)
    assert (stopped.state, queued.state) == (FAIL, optuna.trial.TrialState.WAITING)
    assert queued.params == stopped.params


def test_the_last_cell_of_a_grid_is_repeated_if_it_was_interrupted(
    tmp_path, small_dataset, monkeypatch
):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    preset = write(tmp_path, {"dropout": [0.2]})
    with monkeypatch.context() as patch:
        patch.setattr("classifier.search.trials.train_trial", interrupted)
        assert call(preset, small_dataset, tmp_path, "grid", 1) == 130
    assert call(preset, small_dataset, tmp_path, "grid", 1) == 0
    states = [trial.state for trial in trials_of(f"sqlite:///{tmp_path}/study.db")]
    assert states == [FAIL, COMPLETE]


@pytest.mark.parametrize("name", ["a?b#c%20{d}", "with/slash"])
def test_study_names_and_folders_with_any_character_keep_their_own_database(
    tmp_path, small_dataset, monkeypatch, name
):
    monkeypatch.chdir(tmp_path)
    preset = write(tmp_path, {"learning_rate": [0.05]}, epochs=1)
    options = ["--preset", str(preset), "--dataset", str(small_dataset), "--sampler", "grid"]
    options += ["--trials", "1", "--study-name", name]
    assert command_line.run(tune.main, options) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name == f"{name.replace('/', '-')}-search"
    database = folder / "study.db"
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM trials").fetchone() == (1,)
        assert connection.execute("SELECT study_name FROM studies").fetchall() == [(name,)]


def test_settings_of_the_data_which_are_loaded_once_cannot_be_searched(small_dataset):
    class Recorder:
        read: ClassVar[set[str]] = set()

        def __getattr__(self, name: str) -> object:
            self.read.add(name)
            return getattr(Settings(class_weight="balanced"), name)

    load_training_data(DataSource(str(small_dataset)), Recorder())
    assert "image_size" in Recorder.read
    assert Recorder.read <= {*SHARED, *WEIGHTS}


@pytest.mark.parametrize("name", SHARED + WEIGHTS + UNUSED)
def test_settings_without_effect_on_a_trial_are_refused_by_name(tmp_path, name):
    preset = write(tmp_path, {name: [1, 2]})
    with pytest.raises(InputError, match=f"search: {name} cannot be searched: it must be the same"):
        load_search_space(preset, load_preset(preset), {})


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ([], "has no `search`"),
        ({"dropuot": [0.1]}, "dropuot cannot be searched: dropuot must be a setting"),
        ({"dropout": []}, "dropout cannot be searched: give a list"),
        ({"dropout": [0.1, 1.5]}, "dropout must be less than 1"),
        ({"dropout": {"low": 0.4, "high": 0.1}}, "`low <= high` must hold"),
        ({"dropout": {"low": 0, "high": 0.5, "by": 1}}, "dropout cannot be searched: .*'by'"),
        ({"width": {"low": 8, "high": 64.5}}, "width must be a valid integer"),
        ({"hidden_units": {"low": 8, "high": 64}}, "hidden_units cannot be searched: give a list"),
        ({"optimizer": ["sgd", "adam"]}, "optimizer must be one of"),
    ],
)
def test_invalid_search_spaces_are_refused_with_one_line(tmp_path, search, message):
    preset = write(tmp_path, search)
    with pytest.raises(InputError, match=message) as caught:
        load_search_space(preset, load_preset(preset), {})
    assert "\n" not in str(caught.value)


def test_grid_needs_steps_or_choices(tmp_path, capsys):
    preset = write(tmp_path, SPACE)
    assert call(preset, tmp_path, tmp_path / "out", "grid", 3) == 2
    assert "a grid needs a finite number of values for learning_rate" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_grid_holds_the_values_of_ranges_and_choices(tmp_path):
    search = {
        "dropout": {"low": 0, "high": 0.5, "step": 0.1},
        "depth": {"low": 1, "high": 3},
        "hidden_units": [[64, 32], 16],
        "optimizer": ["sgd", "lion"],
    }
    preset = write(tmp_path, search, depth=2)
    space = load_search_space(preset, load_preset(preset), {})
    assert {type(value) for value in space.grid()["depth"]} == {int}
    assert space.grid() == {
        "dropout": [0.0, 0.1, 0.2, 0.3, 0.4, 0.5],
        "depth": [1, 2, 3],
        "hidden_units": ["[64, 32]", "[16]"],
        "optimizer": ["sgd", "lion"],
    }
    drawn = {"dropout": 0.2, "depth": 1, "hidden_units": "[64, 32]", "optimizer": "lion"}
    settings = space.settings_of(drawn)
    assert (settings.hidden_units, settings.optimizer, settings.depth) == ((64, 32), "lion", 1)
    fixed = load_search_space(preset, load_preset(preset), {"hidden_units": [8]})
    assert fixed.reference() == {"dropout": 0.0, "depth": 2, "optimizer": "sgd"}


def test_search_spaces_of_all_presets_are_valid():
    spaces = [
        name for name in preset_names() if "\nsearch:" in (PRESETS / f"{name}.yaml").read_text()
    ]
    assert "mlp-baseline" in spaces
    for name in spaces:
        load_search_space(name, load_preset(name), {})


@pytest.mark.parametrize(
    ("arguments", "expected", "status"),
    [
        (["--sampler", "magic"], "invalid choice: 'magic'", 2),
        (["--trials", "0"], "give a positive integer", 2),
        (["--preset", "cnn"], "cnn.yaml has no `search`", 2),
        (["--storage", "journal:study.journal"], "--storage takes sqlite:///FILE", 2),
        (["--storage", "postgresql://me:secret@here:port/x"], "://me:***@here:port/x'", 2),
        (["--storage", "sqlite:///pyproject.toml/study.db"], "cannot store a study in", 1),
        (["--storage", "sqlite:///pyproject.toml"], "file is not a database", 1),
        (["--write-preset", "best.txt"], "--write-preset best.txt: give a file", 2),
        (["--write-preset", "presets/mlp.yaml"], "was not written by a search", 2),
        (["--output", "pyproject.toml"], "pyproject.toml is a file", 2),
        (["--output", os.fsdecode(b"caf\xe9")], r"the path 'caf\udce9' is not UTF-8", 2),
        (["--output", "pyproject.toml/out"], "cannot write to pyproject.toml/out", 2),
        (["--dataset", "/nowhere/at/all"], "/nowhere/at/all", 2),
        (["--epochs", "3", "--set", "epochs=4"], "epochs is given twice", 2),
    ],
)
def test_invalid_calls_end_with_one_line(
    arguments, expected, status, tmp_path, small_dataset, capsys, monkeypatch
):
    monkeypatch.chdir(PROJECT)
    preset = str(write(tmp_path, SPACE))
    standard = ["--preset", preset, "--dataset", str(small_dataset), "--sampler", "tpe"]
    standard += ["--trials", "1", "--output", str(tmp_path / "out")]
    try:
        ended = command_line.run(tune.main, standard + arguments)
    except SystemExit as exit:
        ended = exit.code
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert ended == status, error
    assert len(lines) == 1
    assert expected in lines[0]
    assert "secret" not in error
    assert not (tmp_path / "out" / "study.json").exists()
