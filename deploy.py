"""Deploys the Space, with a server or as plain files, or writes the plain files to a folder.

python deploy.py --space user/name --model user/name
python deploy.py --space user/name --model user/name --hardware zero-a10g
python deploy.py --sdk static --space user/name --model user/name
python deploy.py --sdk static --model runs/mine,pretrained/cnn --output site
"""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifier import command_line
from classifier.errors import InputError
from classifier.files import require_writable, write_atomically
from classifier.hub.commit import Upload, commit_files
from classifier.hub.published_files import SDKS, ZERO_GPU, gradio_files, static_readme
from classifier.hub.pulling import commit_at
from classifier.hub_client import (
    FORBIDDEN,
    HubError,
    check_repo_id,
    connect,
    describe,
    status_of,
    unless_missing,
    with_retries,
)

if TYPE_CHECKING:
    from huggingface_hub import HfApi, SpaceInfo

MODEL_VARIABLE = "MODEL_ID"
NO_HARDWARE = "--hardware is for --sdk gradio: a static page runs on none"
PAYMENT_REQUIRED = 402
WAYS_OUT = (
    "--sdk static (free; never sleeps), --hardware zero-a10g (free for two Spaces of an account in "
    "good standing), or a paid plan for --sdk gradio on other hardware"
)


def main(arguments: list[str]) -> None:
    """Reads the command line, and uploads the Space or writes the static page."""
    parser = command_line.argument_parser(
        "Deploys the Space: a Gradio app, or a static page that needs no server."
    )
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--space", metavar="USER/NAME", help="upload this Space")
    target.add_argument("--output", metavar="DIR", help="write the static page to this folder")
    parser.add_argument(
        "--model",
        required=True,
        metavar="SOURCE[,SOURCE…]",
        help="the models to serve, the default first: Hub ids; for --sdk static also folders",
    )
    parser.add_argument("--sdk", choices=SDKS, help="default: that of the Space, else gradio")
    parser.add_argument("--hardware", help="such as cpu-basic or zero-a10g; for --sdk gradio")
    parser.add_argument("--force", action="store_true", help="overwrite a Space of another SDK")
    options = parser.parse_args(arguments)
    models = [name.strip() for name in options.model.split(",") if name.strip()]
    if not models:
        raise InputError("--model names no model: give user/name")
    if options.hardware and (options.sdk == "static" or options.output):
        raise InputError(NO_HARDWARE)
    if options.space:
        chosen = {"sdk": options.sdk, "hardware": options.hardware, "force": options.force}
        print(deploy(options.space, models, **chosen))
        return
    if options.sdk != "static":
        raise InputError("--output is for --sdk static: a Gradio app is started by `make run`")
    write_static_page(models, Path(options.output))
    command = shlex.join(["python", "-m", "http.server", "-d", options.output])
    print(f"Static page: {options.output}\nSee it: {command}")


def deploy(
    space: str,
    models: Sequence[str],
    *,
    sdk: str | None = None,
    hardware: str | None = None,
    force: bool = False,
) -> Upload:
    """Creates the Space if it does not exist, and uploads its files in one commit.

    Args:
        space: user/name.
        models: user/name of each model to serve; for a static page also folders.
        sdk: "gradio" or "static"; None for that of the Space on the Hub, else gradio.
        hardware: as the Hub names it, such as "zero-a10g"; None leaves it as it is.
        force: whether to overwrite a Space of another SDK.

    Raises:
        InputError: a name is invalid, a model does not exist, the token or the account may not do
            it, or the Space has another SDK.
        HubError: the Hub failed repeatedly; the message says what is done.
    """
    check_repo_id(space, "--space")
    api = connect()
    done: list[str] = []
    try:
        info = unless_missing(lambda: api.space_info(space))
        sdk = _choose_sdk(space, sdk, info, force=force)
        if hardware and sdk == "static":
            raise InputError(NO_HARDWARE)
        files = _files(api, models, sdk, hardware or _hardware_of(info))
        head = _prepare_space(api, space, sdk, hardware, info, done)
        # Files of folders that are uploaded, and everything of another SDK, are replaced.
        folders = {f"{name.partition('/')[0]}/*" for name in files if "/" in name}
        upload = commit_files(
            api,
            space,
            files,
            repo_type="space",
            head=head,
            owned=["[!.]*"] if info and info.sdk not in (None, sdk) else sorted(folders),
            message=f"Deploy the {'app' if sdk == 'gradio' else 'static page'}",
            use=f"The Space: {api.endpoint}/spaces/{space}",
        )
        done.append(f"the files are uploaded ({upload.commit.commit_url})")
        if sdk == "gradio":
            known = with_retries(lambda: api.get_space_variables(space)).get(MODEL_VARIABLE)
            value = ",".join(models)
            if known is None or known.value != value:  # every change restarts the Space
                with_retries(lambda: api.add_space_variable(space, MODEL_VARIABLE, value))
    except InputError:
        raise
    except Exception as error:
        raise _readable_error(space, done, error) from error
    return upload


def write_static_page(models: Sequence[str], folder: Path) -> None:
    """Writes the static page of some models; the folder is replaced when the page is complete.

    Raises:
        InputError: a model does not exist or cannot be exported, or the folder holds other files.
    """
    from classifier.hub.sources import locate
    from static_page.builder import CONTENTS, PAGE_DATA, build_site

    folder = folder.resolve()
    others = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    index = folder / "index.html"
    if index.is_file() and PAGE_DATA in index.read_text(encoding="utf-8", errors="replace"):
        others -= CONTENTS
    if others:
        raise InputError(f"{folder} holds {min(others)}: choose an empty or new --output")
    require_writable(folder)
    resolved = [locate(model) for model in models]
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(folder, lambda temporary: build_site(resolved, temporary))


def _choose_sdk(space: str, sdk: str | None, info: SpaceInfo | None, *, force: bool) -> str:
    current = info.sdk if info else None
    chosen = sdk or current or "gradio"
    if chosen not in SDKS or (current not in (None, chosen) and not force):
        raise InputError(
            f"{space} is a {current} Space: choose another --space, or replace its files with "
            f"--force and --sdk {' or '.join(SDKS)}"
        )
    return chosen


def _hardware_of(info: SpaceInfo | None) -> str | None:
    runtime = info.runtime if info else None
    return str(runtime.requested_hardware or runtime.hardware) if runtime else None


def _files(
    api: HfApi, models: Sequence[str], sdk: str, hardware: str | None
) -> dict[str, Path | bytes]:
    """Returns the content of all files of the Space."""
    if sdk == "gradio":
        for model in models:
            check_repo_id(model, "--model")
            commit_at(api, model)
        return gradio_files(models, zero_gpu=hardware == ZERO_GPU)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "site")
        write_static_page(models, folder)
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    return {**files, "README.md": static_readme(models)}


def _prepare_space(
    api: HfApi, space: str, sdk: str, hardware: Any, info: SpaceInfo | None, done: list[str]
) -> str:
    """Creates the Space or requests its hardware, if needed; returns the commit of main."""
    if info is None:
        with_retries(
            lambda: api.create_repo(
                space, repo_type="space", space_sdk=sdk, space_hardware=hardware, exist_ok=True
            )
        )
        done.append("the Space is created")
        info = with_retries(lambda: api.space_info(space))
    elif hardware and hardware != _hardware_of(info):
        with_retries(lambda: api.request_space_hardware(space, hardware))
        done.append(f"its hardware is {hardware}")
    return str(info.sha)


def _readable_error(space: str, done: list[str], error: Exception) -> Exception:
    """Returns an error of one line that says what is done and how to continue."""
    text = describe(error)
    state = f"Done: {', '.join(done)}" if done else "Nothing was changed"
    if status_of(error) == PAYMENT_REQUIRED or (status_of(error) in FORBIDDEN and not done):
        return InputError(
            f"{text}: this account may not have such a Space, or the token may not write to "
            f"{space} (`hf auth login` takes another). Ways out: {WAYS_OUT}. {state}"
        )
    return HubError(f"{text}. {state}. The same command continues")


if __name__ == "__main__":
    sys.exit(command_line.run(main))
