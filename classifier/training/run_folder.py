"""The folder of one training: what it was started with, its checkpoints, and the finished model."""

import contextlib
import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from classifier.data.split import Split
from classifier.errors import DiskFullError, InputError
from classifier.files import DISK_FULL, write_atomically
from classifier.settings import ARCHITECTURE, Settings, current_names, load_preset

START = "run.json"


@dataclass(frozen=True)
class Run:
    """One training and where it lives.

    Attributes:
        folder: `model/` appears in it when the training is complete; beside it `checkpoints/`,
            `tensorboard/` and `run.json`, which says how the run was started.
        settings: the recipe.
        dataset: as given on the command line.
        label_column: likewise, or None.
        dataset_id: of the Hub, where the data set is a local copy of one; else None.
        identity: of the training data that a resumed run began with (see `check_data`).
        init_from: the model whose weights the training starts from, or None: its `source` as
            given, the `name` that the records call it, and its `revision` on the Hub.
    """

    folder: Path
    settings: Settings
    dataset: str
    label_column: str | None
    dataset_id: str | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)
    init_from: dict[str, Any] | None = None

    def check_data(self, split: Split) -> None:
        """Raises `InputError` if a resumed run began with other images, labels or classes."""
        advice = (
            f"the run in {self.folder} cannot go on with it: give it the data that it began with, "
            "or choose another --output"
        )
        before, now = self.identity.get("classes"), list(split.classes)
        if before is not None and before != now:
            raise InputError(
                f"{self.dataset} has other classes than before ({_change(before, now)}): {advice}"
            )
        before, count = self.identity.get("images"), len(split.images)
        if before is not None and before != count:
            raise InputError(
                f"{self.dataset} had {before:,} training images and has {count:,}: {advice}"
            )
        if self.identity.get("fingerprint", split.fingerprint) != split.fingerprint:
            raise InputError(f"{self.dataset} has other images or labels than before: {advice}")

    def start(self, split: Split) -> None:
        """Writes down what the run was started with, from when on the folder holds a run."""
        content = {
            "settings": self.settings.to_dict(),
            "dataset": self.dataset,
            "label_column": self.label_column,
            "dataset_id": self.dataset_id,
            "data": {
                "fingerprint": split.fingerprint,
                "images": len(split.images),
                "classes": split.classes,
            },
            "init_from": self.init_from,
        }
        text = json.dumps(content, indent=2) + "\n"
        write_atomically(self.folder / START, lambda path: path.write_text(text, encoding="utf-8"))

    @property
    def model(self) -> Path:
        """The model folder, there only when it is complete."""
        return self.folder / "model"

    @property
    def checkpoints(self) -> Path:
        """The folder of the state that a resumed training takes up."""
        return self.folder / "checkpoints"

    @property
    def tensorboard(self) -> Path:
        """The folder of TensorBoard's event files."""
        return self.folder / "tensorboard"

    @property
    def complete(self) -> bool:
        """Whether the training has ended and its model folder is written."""
        return self.model.is_dir()

    @property
    def command(self) -> str:
        """The command that trains the same model anew, in another folder."""
        settings = _preset(self.settings.preset)
        words = ["python", "train.py", "--preset", self.settings.preset, "--dataset", self.dataset]
        if self.label_column:
            words += ["--label-column", self.label_column]
        if self.dataset_id:
            words += ["--dataset-id", self.dataset_id]
        if self.init_from:
            words += ["--init-from", str(self.init_from["source"])]
        for name, value in self.settings.to_dict().items():
            adopted = self.init_from and name in ARCHITECTURE
            if settings.to_dict()[name] != value and not adopted:
                words += ["--set", f"{name}={json.dumps(value)}"]
        return shlex.join(words)

    @property
    def command_to_resume(self) -> str:
        """The command that goes on with this run."""
        return f"python train.py --output {shlex.quote(str(self.folder))} --resume"

    @contextlib.contextmanager
    def resumable(self, *, distributed: bool) -> Iterator[None]:
        """Has an interruption from the keyboard and a full disk say how to go on."""
        command = self.command_to_resume + " --distributed" * distributed
        try:
            yield
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"stopped; the state of the last whole epoch is in {self.checkpoints}. "
                f"Go on with: {command}"
            ) from None
        except DiskFullError as error:
            raise DiskFullError(f"{error}, and go on with: {command}") from error
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            raise DiskFullError(
                f"the disk of {self.folder} is full: free some space, and go on with: {command}"
            ) from error


@contextlib.contextmanager
def open_run(
    folder: Path,
    settings: Settings,
    *,
    dataset: str,
    label_column: str | None,
    dataset_id: str | None = None,
    init_from: dict[str, Any] | None = None,
    resume: bool,
    given: dict[str, Any],
    start: bool = True,
    lead: bool = True,
) -> Iterator[Run]:
    """Starts a run in this folder, or opens the one that is there; holds its lock meanwhile.

    Args:
        folder: created if needed.
        settings: of a new run; a resumed one has its own.
        dataset: of a new run.
        label_column: of a new run.
        dataset_id: of a new run.
        init_from: of a new run.
        resume: whether a run that is there may be gone on with.
        start: whether a run may be started where there is none.
        given: what the caller asked for by name; on resuming it must agree with the run.
        lead: whether this process is the one that writes; the others of its team take no lock.

    Raises:
        InputError: there is a run and `resume` is not set, or none and `start` is not set, or it
            differs from what was asked for, or another process is at work on it.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: name a folder with --output")
    if not start and not _holds_run(folder):
        raise InputError(
            f"{folder} holds no run to go on with: name its folder with --output, or leave out "
            "--resume"
        )
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if lead:
                stack.enter_context(FileLock(folder / ".lock", timeout=0))
        except Timeout:
            raise InputError(
                f"another training is at work in {folder}: wait for it, or choose another --output"
            ) from None
        except OSError as error:
            raise InputError(
                f"cannot write to {folder} ({error.strerror}): choose another --output"
            ) from None
        yield _start_or_take_up(
            Run(folder, settings, dataset, label_column, dataset_id, init_from=init_from),
            resume=resume,
            given=given,
        )


def _start_or_take_up(run: Run, *, resume: bool, given: dict[str, Any]) -> Run:
    if not _holds_run(run.folder):
        others = [path.name for path in run.folder.iterdir() if path.name != ".lock"]
        if others:
            raise InputError(
                f"{run.folder} holds other files ({others[0]}): choose an empty or new --output"
            )
        return run
    if not resume:
        raise InputError(
            f"{run.folder} holds a run already: go on with it by --resume, or choose another "
            "--output"
        )
    return _read(run.folder, given)


def _read(folder: Path, given: dict[str, Any]) -> Run:
    start = folder / START
    try:
        content = json.loads(start.read_text(encoding="utf-8"))
        stored = Settings().replace(**current_names(content["settings"]))
        run = Run(
            folder,
            stored,
            content["dataset"],
            content["label_column"],
            content.get("dataset_id"),
            dict(content.get("data") or {}),  # runs of earlier versions have none
            content.get("init_from"),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{start} cannot be read ({error}): the run in {folder} cannot go on; start another"
        ) from None
    named = {name: getattr(run, name) for name in ("dataset", "label_column", "dataset_id")}
    known = {**stored.to_dict(), **named}
    known["init_from"] = run.init_from and run.init_from["source"]
    for name, value in given.items():
        value = list(value) if isinstance(value, tuple) else value
        if known[name] != value:
            raise InputError(
                f"the run in {folder} has {name} {known[name]!r}, not {value!r}: leave it out to "
                "go on, or choose another --output"
            )
    return run


def _holds_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in (START, "model", "checkpoints"))


def _change(before: list[str], now: list[str]) -> str:
    """Returns the first difference between two lists of classes."""
    for word, names in (("new", set(now) - set(before)), ("gone", set(before) - set(now))):
        if len(before) != len(now) and names:
            return f"{min(names)!r} is {word}"
    index = next(index for index, name in enumerate(now) if name != before[index])
    return f"class {index} was {before[index]!r} and is {now[index]!r}"


def _preset(name: str) -> Settings:
    """Returns the preset that a run began with; one from a file is not known by its name."""
    try:
        return load_preset(name)
    except InputError:
        return Settings(preset=name)
