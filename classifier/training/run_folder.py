"""The folder of a training run: its arguments, its checkpoints and the trained model."""

import _thread
import contextlib
import dataclasses
import json
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from classifier.data.labelled_images import LabelledImages
from classifier.data.source import OPTIONS, DataSource
from classifier.errors import DiskFullError, InputError
from classifier.files import DISK_FULL, remove_temporary, require_writable, write_text
from classifier.presets import ARCHITECTURE_SETTINGS, DEFAULT_PRESET, load_preset, preset_names
from classifier.settings import Settings

RECORD = "run.json"


@dataclass(frozen=True)
class Run:
    """A training run.

    Attributes:
        folder: contains `model/` when the training is complete, `checkpoints/`, `tensorboard/` and
            `run.json` with the arguments of the run.
        dataset_id: the value of `--dataset-id`, or None.
        fingerprint: of a resumed run's data, None for a new run.
        init_from: the initial model, or None: `source` as given, `name` for the records, its
            `revision` on the Hub; from the start on, also what `fine_tuning.InitialModel` records.
        teacher: identifies the teacher; empty without one.
    """

    folder: Path
    settings: Settings
    source: DataSource
    dataset_id: str | None = None
    fingerprint: str | None = None
    init_from: dict[str, Any] | None = None
    teacher: str = ""

    def check_data(self, split: LabelledImages) -> None:
        """Raises `InputError` if a resumed run was started with other images, labels or classes."""
        if self.fingerprint not in (None, split.fingerprint):
            raise InputError(
                f"{self.source.dataset} has other images, labels or classes than before, or in "
                f"another order: the run in {self.folder} cannot be resumed with it; name the "
                "original data, or choose another --output"
            )

    def write_record(self, split: LabelledImages, teacher: str) -> None:
        """Writes `run.json`: from now on the folder contains a run."""
        content = {
            "settings": self.settings.to_dict(),
            **dataclasses.asdict(self.source),
            "dataset_id": self.dataset_id,
            "data": {"fingerprint": split.fingerprint},
            "init_from": self.init_from,
            "teacher": teacher,
        }
        write_text(self.folder / RECORD, json.dumps(content, indent=2) + "\n")

    @property
    def model(self) -> Path:
        """The model folder; it exists only when it is complete."""
        return self.folder / "model"

    @property
    def checkpoints(self) -> Path:
        """The folder of the state that a resumed training restores."""
        return self.folder / "checkpoints"

    @property
    def command(self) -> str:
        """The command that trains the same model in another folder."""
        known = self.settings.preset in preset_names()
        # Of a preset from a file, readers have no copy: it is named by what differs in it.
        preset = load_preset(self.settings.preset if known else DEFAULT_PRESET)
        words = ["python", "train.py", "--preset", preset.preset, *self.source.arguments()]
        if self.dataset_id:
            words += ["--dataset-id", self.dataset_id]
        if self.init_from:
            source, revision = self.init_from["source"], self.init_from["revision"]
            on_hub = f"{source.partition('@')[0]}@{revision}"
            words += ["--init-from", on_hub if revision else source]
        for name, value in self.settings.to_dict().items():
            adopted = self.init_from and name in ARCHITECTURE_SETTINGS
            if preset.to_dict()[name] != value and not adopted:
                words += ["--set", f"{name}={json.dumps(value)}"]
        return shlex.join(words)

    @contextlib.contextmanager
    def resumable(self, *, distributed: bool) -> Iterator[None]:
        """Adds the command to resume to the errors of Ctrl-C, SIGTERM and a full disk."""
        resume = "resume from the last checkpoint with: python train.py --output "
        resume += f"{shlex.quote(str(self.folder))} --resume{' --distributed' * distributed}"
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        report = sys.unraisablehook

        def repeat(ignored: "sys.UnraisableHookArgs") -> None:
            # Raised during a garbage collection, it is lost in the callback that JAX has there.
            if ignored.exc_type is KeyboardInterrupt:
                threading.Timer(0.1, _thread.interrupt_main, [signal.SIGTERM]).start()
            else:
                report(ignored)

        def advice() -> str:
            begun = (self.folder / RECORD).exists()
            return resume if begun else "nothing was trained yet, start again"

        sys.unraisablehook = repeat
        try:
            yield
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"stopped; {advice()}") from None
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            told = f"the disk of {self.folder} is full: free some space; {advice()}"
            raise DiskFullError(told) from error
        finally:
            sys.unraisablehook = report
            signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def open_run(
    run: Run, *, resume: bool, given: dict[str, Any], may_start: bool = True, is_chief: bool = True
) -> Iterator[Run]:
    """Starts a new run or resumes the one in its folder; holds the lock of the folder meanwhile.

    Args:
        run: the new run; its folder is created if needed.
        resume: whether an existing run may be resumed, with the settings that it has.
        given: the arguments of the command line, which a resumed run must agree with.
        may_start: whether a new run may be started.
        is_chief: whether this process writes files; other processes take no lock.

    Raises:
        InputError: there is a run without `resume`, or none without `may_start`, or it
            differs from the arguments, or another process is training in the folder.
    """
    folder = run.folder
    require_writable(folder)
    if not may_start and not _holds_run(folder):
        raise InputError(
            f"{folder} holds no run to resume: name its folder with --output, or leave out --resume"
        )
    with contextlib.ExitStack() as stack:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            if is_chief:
                stack.enter_context(FileLock(folder / ".lock", timeout=0))
        except Timeout:
            raise InputError(
                f"another process is training in {folder}: wait for it, or choose another --output"
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
        if is_chief:  # what a killed process has left
            remove_temporary(folder)
        yield run


def _read(folder: Path, given: dict[str, Any]) -> Run:
    content = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    run = Run(
        folder,
        Settings().replace(**content["settings"]),
        DataSource(**{name: content[name] for name in OPTIONS}),
        content["dataset_id"],
        content["data"]["fingerprint"],
        content["init_from"],
        content["teacher"],
    )
    known = {**content, **run.settings.to_dict()}
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
    return any((folder / name).exists() for name in (RECORD, "model"))
