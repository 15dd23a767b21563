"""`python tune.py`: every sampler, its results, stopping and going on, and calls that are wrong."""

import csv
import json
import signal
import sys
import threading
import time
from pathlib import Path

import optuna
import pytest
import yaml

import train
import tune
from classifier import command_line
from classifier.errors import InputError
from classifier.search import storage as storages
from classifier.search import trial as trials
from classifier.search import worker as workers
from classifier.search.search_space import load_search_space
from classifier.search.trial import Outcome
from classifier.settings import PRESETS, load_preset, preset_names
from conftest import PROJECT

PRESET = {"hidden_units": [8], "batch_size": 108, "epochs": 2, "precision": "float32"}
SPACE = {
    "learning_rate": {"low": 0.01, "high": 0.1, "log": True},
    "dropout": [0.0, 0.1],
    "hidden_units": [[8], [8, 8]],
}
COMPLETE, PRUNED = optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED
FAIL, RUNNING = optuna.trial.TrialState.FAIL, optuna.trial.TrialState.RUNNING
RESULTS = {"trials.csv", "trials.md", "study.json", "study.db"}
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


def trials_of(url: str | optuna.storages.BaseStorage) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="tiny", storage=url).trials


@pytest.fixture(scope="module")
def searched(tmp_path_factory, small_dataset) -> Path:
    """The folder of a TPE search of three trials, which has written its preset."""
    folder = tmp_path_factory.mktemp("searched")
    preset = write(folder, SPACE, dropout=0.1, learning_rate=0.02)
    best = str(folder / "best.yaml")
    assert call(preset, small_dataset, folder, "tpe", 3, "--write-preset", best) == 0
    return folder


def test_a_search_leaves_its_table_plots_and_figures(searched):
    names = {path.name for path in searched.iterdir()}
    assert names == RESULTS | PLOTS | {"tiny.yaml", "best.yaml"}
    study = json.loads((searched / "study.json").read_text())
    with (searched / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))

    assert (study["complete"], study["pruned"], study["lost_or_failed"]) == (3, 0, 0)
    assert rows[0]["trial"] == str(study["best"]["trial"])
    tops = [float(row["validation_top1"]) for row in rows]
    assert tops == sorted(tops, reverse=True)
    assert study["best"]["validation_top1"] == tops[0]
    assert {row["hidden_units"] for row in rows} <= {"[8]", "[8, 8]"}
    for name in PLOTS:
        assert (searched / name).read_bytes().startswith(b"\x89PNG")
    table = (searched / "trials.md").read_text()
    assert table.count("\n| ") == 4
    assert "**best**" in table
    assert "python tune.py" in table


def test_the_first_trial_is_the_preset_as_it_is(searched):
    study = json.loads((searched / "study.json").read_text())
    settings = study["trials"][0]["settings"]
    assert settings == {"learning_rate": 0.02, "dropout": 0.1, "hidden_units": "[8]"}
    assert study["preset_as_it_is"]["trial"] == 0


def test_train_takes_the_written_preset_and_reaches_what_it_states(searched, small_dataset):
    path, run = searched / "best.yaml", searched.with_name("trained")
    study = json.loads((searched / "study.json").read_text())
    best = study["best"]
    header = path.read_text().split("\n\n")[0]
    for part in (f"{best['validation_top1']:.2%}", "3 trials", "python tune.py", study["date"]):
        assert part in header
    settings = load_preset(path)
    assert settings.learning_rate == best["settings"]["learning_rate"]
    assert list(settings.hidden_units) == json.loads(best["settings"]["hidden_units"])

    arguments = ["--preset", str(path), "--dataset", str(small_dataset), "--output", str(run)]
    assert command_line.run(train.main, arguments) == 0
    training = json.loads((run / "model" / "training.json").read_text())
    assert training["validation_top1"] == best["validation_top1"]


def test_a_study_goes_on_to_more_trials_and_repeats_none(searched, small_dataset, capsys):
    before = trials_of(f"sqlite:///{searched}/study.db")
    assert call(searched / "tiny.yaml", small_dataset, searched, "tpe", 3) == 0
    assert "Trial " not in capsys.readouterr().out
    assert call(searched / "tiny.yaml", small_dataset, searched, "tpe", 4) == 0
    after = trials_of(f"sqlite:///{searched}/study.db")
    assert len(after) == 4
    assert [t.datetime_complete for t in after[:3]] == [t.datetime_complete for t in before]

    other = call(searched / "tiny.yaml", small_dataset, searched, "tpe", 4, "--epochs", "1")
    assert other == 2
    expected = "the study 'tiny' has epochs 2, not 1: use the same options as before, or another"
    assert expected in capsys.readouterr().err
    other_space = searched.with_name("other-space")
    other_space.mkdir()
    preset = write(other_space, {"dropout": [0.0, 0.2]}, dropout=0.1)
    assert call(preset, small_dataset, searched, "tpe", 4) == 2
    assert "use the same options" in capsys.readouterr().err
    assert trials_of(f"sqlite:///{searched}/study.db")[-1].number == 3


def test_a_grid_tries_every_cell_once_and_prunes_the_hopeless(tmp_path, small_dataset, capsys):
    rates = [0.08, 0.07, 0.06, 0.05, 0.04, 1e-6, 1e-7, 1e-8]
    preset = write(tmp_path, {"learning_rate": rates}, batch_size=27)
    assert call(preset, small_dataset, tmp_path, "grid", 100) == 0
    trials = trials_of(f"sqlite:///{tmp_path}/study.db")
    assert sorted(trial.params["learning_rate"] for trial in trials) == sorted(rates)
    pruned = [trial for trial in trials if trial.state == PRUNED]
    assert pruned
    assert {trial.state for trial in trials} == {COMPLETE, PRUNED}
    best = max(trial.user_attrs["validation_top1"] for trial in trials)
    for trial in pruned:
        assert trial.user_attrs["epochs"] == 1
        assert trial.user_attrs["validation_top1"] < best


def test_a_trial_that_diverges_has_failed_and_is_no_best_one(tmp_path, small_dataset, capsys):
    preset = write(tmp_path, {"learning_rate": [1e35, 1e3, 1e30, 0.05]})
    best = tmp_path / "best.yaml"
    assert call(preset, small_dataset, tmp_path, "grid", 4, "--write-preset", str(best)) == 0
    trials = trials_of(f"sqlite:///{tmp_path}/study.db")
    assert sorted(trial.state for trial in trials) == sorted([COMPLETE, FAIL, FAIL, FAIL])
    assert load_preset(best).learning_rate == 0.05
    assert "diverged in epoch 1: lower learning_rate" in capsys.readouterr().out


@pytest.mark.parametrize("sampler", ["grid", "random"])
def test_a_study_without_a_good_trial_writes_no_preset(tmp_path, small_dataset, capsys, sampler):
    preset = write(tmp_path, {"learning_rate": [1e35]}, learning_rate=1e35)
    best = tmp_path / "best.yaml"
    assert call(preset, small_dataset, tmp_path, sampler, 1, "--write-preset", str(best)) == 1
    assert "so there is no best one" in capsys.readouterr().err
    assert not best.exists()
    assert len(trials_of(f"sqlite:///{tmp_path}/study.db")) == 1


def test_ctrl_c_puts_the_trial_back_and_says_how_to_go_on(
    tmp_path, small_dataset, capsys, monkeypatch
):
    preset = write(tmp_path, {"dropout": [0.0, 0.2]}, epochs=5000)

    def interrupt() -> None:
        while not list(tmp_path.glob(".trial-*/state.npz")):
            time.sleep(0.05)
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    assert call(preset, small_dataset, tmp_path, "grid", 2) == 130
    assert "Resume it with the same command" in capsys.readouterr().err
    assert not list(tmp_path.glob(".trial-*"))
    stopped = trials_of(f"sqlite:///{tmp_path}/study.db")[0]

    monkeypatch.setattr(trials, "run_trial", lambda *given: Outcome(0.5, False, 1, 0.0, 1))
    assert call(preset, small_dataset, tmp_path, "grid", 2) == 0
    after = trials_of(f"sqlite:///{tmp_path}/study.db")
    complete = [trial.params for trial in after if trial.state == COMPLETE]
    assert stopped.params in complete
    assert sorted(params["dropout"] for params in complete) == [0.0, 0.2]


@pytest.mark.parametrize("sampler", ["grid", "random"])
@pytest.mark.parametrize("kind", ["sqlite:///{}/many.db", "journal:{}/many.journal"])
def test_many_workers_end_with_exactly_the_trials_that_were_asked_for(tmp_path, sampler, kind):
    """Without Keras: trials that take milliseconds collide far more often than trainings."""
    preset = write(tmp_path, {"dropout": [0.0, 0.1, 0.2], "l2": [0.0, 0.1, 0.2]})
    space = load_search_space(preset, load_preset(preset))
    url = kind.format(tmp_path)
    storages.open_storage(url)

    def work() -> None:
        storage = storages.open_storage(url)
        pruner = workers.build_pruner("none", 1)
        study = workers.open_study(storage, "tiny", pruner=pruner, config={})
        workers.Worker(
            study,
            space,
            sampler=sampler,
            trials=9,
            grace=60,
            folder=tmp_path,
            train=lambda trial, settings, folder: Outcome(settings.dropout, False, 1, 0.0, 1),
            after_trial=lambda: None,
        ).run()

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    storage = storages.open_storage(url)
    trials = optuna.load_study(study_name="tiny", storage=storage).trials
    complete = [trial for trial in trials if trial.state == COMPLETE]
    assert len(complete) == 9
    assert not any(trial.state == RUNNING for trial in trials)
    if sampler == "grid":
        assert len({(trial.params["dropout"], trial.params["l2"]) for trial in complete}) == 9


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (None, "has no `search`"),
        ([], "must hold `setting: values` lines"),
        ({"dropuot": [0.1]}, "Did you mean 'dropout'"),
        ({"dropout": []}, "dropout cannot be searched: give a list of choices"),
        ({"dropout": [0.1, 1.5]}, "dropout must lie between 0 and 1"),
        (
            {"dropout": [0.1, 0.1]},
            "dropout cannot be searched: the choice 0.1 is given more than once",
        ),
        ({"dropout": 0.1}, "dropout cannot be searched: give a list of choices"),
        (
            {"dropout": {"low": 0.4, "high": 0.1}},
            "dropout cannot be searched: `low <= high` must hold, but got (low=0.4",
        ),
        ({"dropout": {"low": 0.1}}, "dropout cannot be searched: a range takes low, high"),
        ({"dropout": {"low": 0, "high": 0.5, "by": 1}}, "takes low, high"),
        ({"dropout": {"low": "a", "high": 0.5}}, "dropout must be a number"),
        (
            {"dropout": {"low": 0, "high": 0.5, "log": True}},
            "dropout cannot be searched: `low > 0` must",
        ),
        ({"dropout": {"low": 0, "high": 0.5, "log": 1}}, "true or false"),
        (
            {"dropout": {"low": 0, "high": 0.5, "step": 0.3}},
            "steps of 0.3 do not lead from 0 to 0.5",
        ),
        ({"dropout": {"low": 0, "high": 0.5, "step": -1}}, "step must be a number above 0"),
        (
            {"width": {"low": 8, "high": 64, "step": 0.5}},
            "width cannot be searched: step must be an integer",
        ),
        ({"width": {"low": 8, "high": 64.5}}, "width must be a whole number"),
        (
            {"l2": {"low": 1e-5, "high": 1e-3, "log": True, "step": 1e-5}},
            "l2 cannot be searched: The parameter `step` is not",
        ),
        ({"hidden_units": {"low": 8, "high": 64}}, "give a list of choices"),
        ({"optimizer": ["sgd", "adam"]}, "optimizer must be one of"),
        ({"epochs": [1, 2]}, "epochs cannot be searched"),
        ({"seed": [1, 2]}, "seed cannot be searched"),
    ],
)
def test_a_search_space_that_cannot_be_is_refused_with_one_line(tmp_path, search, message):
    preset = write(tmp_path, search)
    with pytest.raises(InputError, match=message.replace("(", r"\(")) as caught:
        load_search_space(preset, load_preset(preset))
    assert "\n" not in str(caught.value)


def test_a_grid_needs_steps_or_choices(tmp_path, capsys):
    preset = write(tmp_path, SPACE)
    assert call(preset, tmp_path, tmp_path / "out", "grid", 3) == 2
    error = capsys.readouterr().err
    assert "a grid needs a finite number of values for learning_rate" in error
    assert not (tmp_path / "out").exists()


def test_ranges_and_choices_are_drawn_as_the_settings_hold_them(tmp_path):
    search = {
        "dropout": {"low": 0, "high": 0.5, "step": 0.1},
        "depth": {"low": 1, "high": 3},
        "hidden_units": [[64, 32], 16],
        "optimizer": ["sgd", "lion"],
    }
    preset = write(tmp_path, search, dropout=0.3, depth=2)
    space = load_search_space(preset, load_preset(preset))
    cells = space.grid()
    assert len(cells) == 6 * 3 * 2 * 2
    assert cells[0] == {
        "dropout": 0.0,
        "depth": 1,
        "hidden_units": "[64, 32]",
        "optimizer": "sgd",
    }
    for name, values in {
        "dropout": {0.0, 0.1, 0.2, 0.3, 0.4, 0.5},
        "depth": {1, 2, 3},
        "hidden_units": {"[64, 32]", "[16]"},
        "optimizer": {"sgd", "lion"},
    }.items():
        assert {cell[name] for cell in cells} == values
    drawn = {"dropout": 0.2, "depth": 1, "hidden_units": "[64, 32]", "optimizer": "lion"}
    settings = space.settings_of(drawn)
    assert (settings.hidden_units, settings.optimizer, settings.depth) == ((64, 32), "lion", 1)
    assert space.reference() is None  # hidden_units [8] is not among the choices
    fixed = load_search_space(preset, load_preset(preset), fixed={"hidden_units": [8]})
    assert fixed.reference() == {"dropout": 0.3, "depth": 2, "optimizer": "sgd"}


def test_every_search_space_of_the_presets_can_be_searched():
    spaces = [
        name for name in preset_names() if "\nsearch:" in (PRESETS / f"{name}.yaml").read_text()
    ]
    assert "mlp-baseline" in spaces
    for name in spaces:
        assert load_search_space(name, load_preset(name)).reference() is not None


@pytest.mark.parametrize(
    ("arguments", "expected", "status"),
    [
        (["--sampler", "magic"], "invalid choice: 'magic'", 2),
        (["--trials", "0"], "--trials must be 1 or more", 2),
        (["--preset", "cnn"], "cnn.yaml has no `search`", 2),
        (["--storage", "mysql://here"], "--storage takes sqlite:///FILE", 2),
        (["--storage", "grpc:here"], "grpc takes HOST:PORT", 2),
        (["--storage", "grpc:here:99999"], "grpc takes HOST:PORT", 2),
        (["--storage", "sqlite:study.db"], "--storage takes sqlite:///FILE", 2),
        (["--storage", "sqlite://"], "needs a file, as in sqlite:///runs/study.db", 2),
        (["--storage", "postgresql://me:secret@here"], "needs a database", 2),
        (["--storage", "postgresql://me:secret@here:port/x"], "://me:***@here:port/x'", 2),
        (["--storage", "journal://here/study"], "--storage takes sqlite:///FILE", 2),
        (["--storage", "journal:presets/mlp.yaml"], "is not the journal of a study", 2),
        (["--storage", "grpc:127.0.0.1:9"], "no study server answers at 127.0.0.1:9", 1),
        (["--storage", "sqlite:////dev/null/study.db"], "cannot store a study in", 1),
        (["--storage", "sqlite:///pyproject.toml"], "file is not a database", 1),
        (["--storage", "journal:/dev/null/study"], "cannot store a study in", 1),
        (["--write-preset", "best.txt"], "--write-preset takes a file", 2),
        (["--write-preset", "presets/mlp.yaml"], "was not written by a search", 2),
        (["--write-preset", "pyproject.toml/best.yaml"], "cannot write to pyproject.toml", 2),
        (["--output", "pyproject.toml"], "pyproject.toml is a file", 2),
        (["--output", "pyproject.toml/out"], "cannot write to pyproject.toml/out", 2),
        (["--dataset", "/nowhere/at/all"], "/nowhere/at/all", 2),
        (["--epochs", "3", "--set", "epochs=4"], "epochs is given twice", 2),
    ],
)
def test_a_wrong_call_ends_with_one_line(
    arguments, expected, status, tmp_path, small_dataset, capsys, monkeypatch
):
    monkeypatch.setattr(storages, "CONNECT_TIMEOUT", 0.5)
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
    assert "Traceback" not in error
    assert not (tmp_path / "out" / "study.json").exists()
    assert "--storage" not in arguments or not (tmp_path / "out").exists()


def test_what_is_not_installed_is_named(monkeypatch, tmp_path):
    for missing, url, line in (
        ("grpc", "grpc:127.0.0.1:9", "pip install grpcio"),
        ("psycopg", "postgresql://me:secret@127.0.0.1/studies", r"pip install 'psycopg\[binary\]'"),
    ):
        monkeypatch.setitem(sys.modules, missing, None)
        with pytest.raises(InputError, match=line) as caught:
            storages.open_storage(url)
        assert "secret" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match="pip install -r requirements-dev"):
        tune.import_optuna()


def test_a_password_is_not_written_down():
    command = tune.command_to_repeat(["--storage", "postgresql://me:secret@db/studies", "--debug"])
    assert command == "python tune.py --storage 'postgresql://me:***@db/studies'"
