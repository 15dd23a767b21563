"""The folder of a training run: its arguments, its checkpoints and the trained model."""

import contextlib
import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from classifier.data.labelled_images import LabelledImages
from classifier.errors import DiskFullError, InputError
from classifier.files import DISK_FULL, write_text
from classifier.settings import ARCHITECTURE, Settings, current_names, load_preset

START = "run.json"


@dataclass(frozen=True)
class Run:
    """A training run.

    Attributes:
        folder: contains `model/` when the training is complete, `checkpoints/`, `tensorboard/` and
            `run.json` with the arguments of the run.
        settings: the settings.
        dataset: the value of `--dataset`.
        label_column: the value of `--label-column`, or None.
        dataset_id: the value of `--dataset-id`, or None.
        identity: the classes, size and fingerprint of a resumed run's data (see `check_data`).
        init_from: the initial model, or None: `source` as given, `name` for the records, its
            `revision` on the Hub.
    """

    folder: Path
    settings: Settings
    dataset: str
    label_column: str | None
    dataset_id: str | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)
    init_from: dict[str, Any] | None = None

    def check_data(self, split: LabelledImages) -> None:
        """Raises `InputError` if a resumed run was started with other images, labels or classes."""
        advice = (
            f"the run in {self.folder} cannot be resumed with it: name the original data, or "
            "choose another --output"
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
            raise InputError(
                f"{self.dataset} has other images or labels than before, or in another order: "
                f"{advice}"
            )

    def start(self, split: LabelledImages) -> None:
        """Writes `run.json`: from now on the folder contains a run."""
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
        write_text(self.folder / START, text)

    @property
    def model(self) -> Path:
        """The model folder; it exists only when it is complete."""
        return self.folder / "model"

    @property
    def checkpoints(self) -> Path:
        """The folder of the state that a resumed training restores."""
        return self.folder / "checkpoints"

    @property
    def tensorboard(self) -> Path:
        """The folder of TensorBoard's event files."""
        return self.folder / "tensorboard"

    @property
    def complete(self) -> bool:
        """Whether the training has ended and the model folder is written."""
        return self.model.is_dir()

    @property
    def command(self) -> str:
        """The command that trains the same model in another folder."""
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
        """The command that resumes this run."""
        return f"python train.py --output {shlex.quote(str(self.folder))} --resume"

    @contextlib.contextmanager
    def resumable(self, *, distributed: bool) -> Iterator[None]:
        """Adds the command to resume to the errors of Ctrl-C and of a full disk."""
        command = self.command_to_resume + " --distributed" * distributed
        try:
            yield
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"stopped; the state of the last complete epoch is in {self.checkpoints}. "
                f"Resume with: {command}"
            ) from None
        except DiskFullError as error:
            raise DiskFullError(f"{error}, and resume with: {command}") from error
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            raise DiskFullError(
                f"the disk of {self.folder} is full: free some space, and resume with: {command}"
            ) from error


@contextlib.contextmanager
def open_run(
    run: Run,
    *,
    resume: bool,
    given: dict[str, Any],
    start: bool = True,
    is_chief: bool = True,
) -> Iterator[Run]:
    """Starts a new run or resumes the one in its folder; holds the lock of the folder meanwhile.

    Args:
        run: the new run; its folder is created if needed.
        resume: whether an existing run may be resumed, with the settings that it has.
        given: the arguments of the command line, which a resumed run must agree with.
        start: whether a new run may be started.
        is_chief: whether this process writes files; other processes take no lock.

    Yields:
        The run that was started or resumed.

    Raises:
        InputError: there is a run and `resume` is not set, or none and `start` is not set, or it
            differs from the arguments, or another process is training in the folder.
    """
    folder = run.folder
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: name a folder with --output")
    if not start and not _holds_run(folder):
        raise InputError(
            f"{folder} holds no run to resume: name its folder with --output, or leave out --resume"
        )
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if is_chief:
                stack.enter_context(FileLock(folder / ".lock", timeout=0))
        except Timeout:
            raise InputError(
                f"another process is training in {folder}: wait for it, or choose another --output"
            ) from None
        except OSError as error:
            raise InputError(
                f"cannot write to {folder} ({error.strerror}): choose another --output"
            ) from None
        if _holds_run(folder):
            if not resume:
                raise InputError(
                    f"{folder} holds a run already: resume it with --resume, or choose another "
                    "--output"
                )
            run = _read(folder, given)
        elif others := [path.name for path in folder.iterdir() if path.name != ".lock"]:
            raise InputError(
                f"{folder} holds other files ({others[0]}): choose an empty or new --output"
            )
        yield run


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
            f"{start} cannot be read ({error}): the run cannot be resumed; choose another --output"
        ) from None
    named = {name: getattr(run, name) for name in ("dataset", "label_column", "dataset_id")}
    known = {**stored.to_dict(), **named}
    known["init_from"] = run.init_from and run.init_from["source"]
    for name, value in given.items():
        value = list(value) if isinstance(value, tuple) else value
        if known[name] != value:
            raise InputError(
                f"the run in {folder} has {name} {known[name]!r}, not {value!r}: leave it out to "
                "resume, or choose another --output"
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
    """Returns a preset by its name; the default settings if it was read from a file."""
    try:
        return load_preset(name)
    except InputError:
        return Settings(preset=name)
