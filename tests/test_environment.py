"""The environment of the commands: variables of libraries, standard streams, nothing reported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from classifier import command_line
from classifier.environment import prepare_environment
from conftest import PROJECT
from ports import free_port

KERNELS = "TF_ENABLE_ONEDNN_OPTS"

# Says at the end which addresses were looked up or connected to, other than this machine.
NETWORK_LOG = """
import os, sys

def note(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        address = arguments[1] if event == "socket.connect" else arguments[0]
        host = address[0] if isinstance(address, tuple) else address
        if host not in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::", "", None):
            with open(os.environ["NETWORK_LOG"], "a") as log:
                print(event, address, sys.argv, file=log)
            raise OSError("no network here")

sys.addaudithook(note)
"""


def test_prepare_environment_turns_on_the_kernels_for_batches_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from classifier.training.precision import describe

    for given, batches, expected in [
        ("", False, ""),
        ("", True, "1"),
        ("0", True, "0"),
        ("1", False, "1"),
    ]:
        monkeypatch.setenv(KERNELS, given)
        prepare_environment(batches=batches)
        assert os.environ[KERNELS] == expected
        assert ("oneDNN" in describe("float32")) is (expected == "1")
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    assert describe("float32") == "float32, jax"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("train", "1"),
        ("tune", "1"),
        ("evaluation", "1"),
        ("classify", None),
        ("app", None),
    ],
)
def test_run_sets_the_kernels_before_tensorflow_is_imported(
    command: str, expected: str | None
) -> None:
    # The first thing that each command does is to parse its arguments.
    program = f"""if True:
        import os, runpy, sys
        from classifier import command_line

        class Watch:
            def find_spec(name, *_):
                if name == "tensorflow":
                    raise SystemExit(f"kernels: {{os.environ.get({KERNELS!r})}}")

        sys.meta_path.insert(0, Watch)
        command_line.argument_parser = lambda *_, **__: __import__("tensorflow")
        runpy.run_module({command!r}, run_name="__main__", alter_sys=True)
    """
    environment = {name: value for name, value in os.environ.items() if name != KERNELS}
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.stderr.strip().splitlines()[-1] == f"kernels: {expected}"


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_run_escapes_characters_that_the_output_cannot_hold(encoding: str) -> None:
    program = (
        "import sys; from classifier import command_line\n"
        "def main(_):\n"
        "    print('寿司 …')\n"
        "    raise command_line.InputError('no 寿司')\n"
        "sys.exit(command_line.run(main))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=PROJECT,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
    )
    assert result.returncode == 2, result.stderr
    assert result.stdout.startswith(rb"\u5bff\u53f8")
    assert result.stderr == b"error: no \\u5bff\\u53f8\n"


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_run_works_with_closed_standard_streams(closed: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import sys; from pathlib import Path; from classifier import command_line\n"
        "def main(_):\n"
        "    print('text', sys.stdin.read(), flush=True)\n"
        f"    Path({str(tmp_path / 'file')!r}).write_text('content')\n"
        "sys.exit(command_line.run(main))\n"
    )
    result = subprocess.run(
        ["sh", "-c", f"{sys.executable} {program} {closed}"],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "file").read_text() == "content"


def test_check_output_refuses_what_could_not_be_written(tmp_path: Path) -> None:
    longest = "x" * 255  # bytes; the temporary name is longer
    for name, said in [
        ("no/folder", "No such file or directory"),
        (".", "not a regular file"),
        (longest, "File name too long"),
        ("x" * 256, "File name too long"),
    ]:
        with pytest.raises(command_line.InputError, match=said):
            command_line.check_output(tmp_path / name)
    command_line.check_output(tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_prepare_environment_without_a_home_creates_no_folder_named_tilde(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['pwd'] = None  # no list of users, as in some containers\n"
        "from classifier.environment import prepare_environment; prepare_environment()\n"
        "import keras, matplotlib.pyplot, huggingface_hub, datasets\n"
        "from classifier.data import array_cache; array_cache.cache_folder().mkdir(parents=True)"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT)}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_nothing_is_reported_and_nothing_written_but_caches(
    tmp_path: Path, small_dataset: Path
) -> None:
    home, log = tmp_path / "home", tmp_path / "network.txt"
    home.mkdir()
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(NETWORK_LOG)
    environment = {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{tmp_path / 'site'}",
        "NETWORK_LOG": str(log),
    }
    run, converted = tmp_path / "run", tmp_path / "model.onnx"
    data = ["--dataset", small_dataset]
    tiny = ["--preset", "mlp-baseline", "--set", "hidden_units=[8]", "--epochs", "1"]
    for command in [
        ["train.py", *tiny, *data, "--output", run],
        ["-m", "evaluation", run, *data],
        ["-m", "classifier.convert", run, "--to", "onnx", "--output", converted],
        ["classify.py", run / "model" / "plots", "--model", run],
    ]:
        result = subprocess.run(
            [sys.executable, *map(str, command)], cwd=PROJECT, env=environment, capture_output=True
        )
        assert result.returncode == 0, result.stderr.decode()
    app = [sys.executable, "-u", "app.py", "--model", str(run), "--port", str(free_port())]
    with subprocess.Popen(app, cwd=PROJECT, env=environment, stdout=subprocess.PIPE) as process:
        assert b"Running on" in process.stdout.readline()
        process.terminate()
    assert not log.exists(), log.read_text()
    files = [path.relative_to(home).parts for path in home.rglob("*") if path.is_file()]
    assert {"/".join(parts[:2]) for parts in files} == {
        ".keras/keras.json",
        ".cache/cifar100-mlp",
        ".cache/huggingface",  # of the local data set and the metrics
        ".cache/matplotlib",
    }
