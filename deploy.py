"""Deploys the Space: uploads the app and the modules it imports, and sets the served models.

python deploy.py --space user/name --model user/name
"""

from __future__ import annotations

import fnmatch
import logging
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from classifier import command_line
from classifier.errors import InputError
from classifier.hub.access import check_repo_id, check_token, find_token
from classifier.hub.commit import Target, commit_files, head_of
from classifier.hub.pulling import SERVED_FILES, commit_at
from classifier.hub_client import (
    FORBIDDEN,
    HubError,
    connect,
    describe,
    redact_token,
    status_of,
    with_retries,
)
from classifier.model_folder.folder import ModelFolder

if TYPE_CHECKING:
    from huggingface_hub import HfApi

logger = logging.getLogger(__name__)

PROJECT = Path(__file__).resolve().parent
README = "README.md"
REQUIREMENTS = "requirements.txt"
SINGLE_FILES = ("app.py", README, REQUIREMENTS, "LICENSE")
PACKAGES = ("classifier", "evaluation", "interface")
EMBEDDED = "pretrained"
OWNED = tuple(f"{folder}/*" for folder in (*PACKAGES, EMBEDDED))  # deleted when no longer needed
MODEL_VARIABLE = "MODEL_ID"
PICTURE = re.compile(r"!\[[^\]]*\]\(([\w./-]+)\)")  # in the README
NOT_UPLOADED = ("*.pyc", "*.pyo", "*.tmp", "*.log", "*~")


@dataclass(frozen=True)
class Deployment:
    """A Space that is on the Hub: its page, the commit's page, and what has changed."""

    page: str
    commit: str
    changed: bool
    variable_set: bool

    def __str__(self) -> str:
        first = "Uploaded" if self.changed else "No file has changed since"
        if not self.changed and not self.variable_set:
            first = "Nothing has changed since"
        second = f"Set: {MODEL_VARIABLE}\n" if self.variable_set else ""
        return f"{first}: {self.commit}\n{second}The Space: {self.page}"


def main(arguments: list[str]) -> None:
    """Reads the command line and uploads the Space."""
    parser = command_line.argument_parser(
        "Uploads the Space: the app and what it imports, in one commit."
    )
    parser.add_argument("--space", required=True, metavar="USER/NAME", help="the Space")
    parser.add_argument(
        "--model", required=True, metavar="USER/NAME[,USER/NAME…]", help="the models to serve"
    )
    options = parser.parse_args(arguments)
    models = [name.strip() for name in options.model.split(",") if name.strip()]
    print(deploy(options.space, models))


def deploy(space: str, models: Sequence[str]) -> Deployment:
    """Uploads the files of the Space and sets its variable with the models to serve.

    Args:
        space: user/name of the Space; created if it does not exist.
        models: user/name of each model.

    Raises:
        InputError: a name is invalid, a model does not exist, the token has no write access, or
            the README and the requirements name different versions of Gradio.
        HubError: the Hub failed repeatedly; the message says what is done and what remains.
    """
    check_repo_id(space, "SPACE")
    if not models:
        raise InputError("MODEL names no model: give user/name")
    for model in models:
        check_repo_id(model, "MODEL")
    token = find_token()
    api = connect(token)
    page = f"{api.endpoint}/spaces/{space}"
    files = space_files(models)
    done: list[str] = []
    served = ",".join(models)
    variable = f"to set its variable {MODEL_VARIABLE} to {served} (by hand: {page}/settings)"
    left = ["to upload the app", variable]
    try:
        check_token(api)
        for model in models:
            commit_at(api, model)
        target = Target(space, "space")
        if head_of(api, target) is None:
            with_retries(
                lambda: api.create_repo(**target.repository, space_sdk="gradio", exist_ok=True)
            )
            done.append("the Space is created")
        target = replace(target, head=head_of(api, target))
        made = commit_files(api, target, files, owned=OWNED, message="Deploy the app")
        done.append(f"the app is uploaded ({made.url})")
        del left[0]
        variable_set = _set_models(api, space, models)
    except InputError:
        raise
    except Exception as error:
        text = redact_token(error, token).rstrip(".")
        if status_of(error) in FORBIDDEN and not done:
            raise InputError(f"{text}: the token may not write to {space}") from error
        raise HubError(
            f"{text}. Done: {', '.join(done) or 'nothing, the Space serves what it served'}. "
            f"What remains: {' and '.join(left)}. Continue with: "
            f"make space SPACE={space} MODEL={served}"
        ) from error
    return Deployment(page, made.url, made.changed, variable_set)


def space_files(models: Sequence[str], project: Path = PROJECT) -> dict[str, Path | bytes]:
    """Returns the content of every file that the Space needs, by its path in it.

    Args:
        models: the models to serve; written into the front matter of its README.
        project: the root of the repository.
    """
    files: dict[str, Path | bytes] = {}
    for name in SINGLE_FILES:
        if not (project / name).is_file():
            raise InputError(f"{project} holds no {name}: run this in a copy of the repository")
        files[name] = project / name
    for package in PACKAGES:
        for path in sorted((project / package).rglob("*")):
            relative = path.relative_to(project)
            if path.is_file() and not _is_excluded(relative):
                files[relative.as_posix()] = path
    for path in sorted((project / EMBEDDED).glob("[!.]*")):
        # The models, and comparison.json, which the app shows.
        inner = [path / name for name in ModelFolder(path).files()] if path.is_dir() else [path]
        for found in inner:
            files[found.relative_to(project).as_posix()] = found
    readme = (project / README).read_text(encoding="utf-8")
    for name in PICTURE.findall(readme):
        if (project / name).is_file():
            files[name] = project / name
    _check_gradio_version(readme, (project / REQUIREMENTS).read_text(encoding="utf-8"))
    files[README] = with_models(readme, models).encode()
    return files


def with_models(readme: str, models: Sequence[str]) -> str:
    """Returns the text of a README whose front matter names these models and preloads them."""
    from huggingface_hub import RepoCard

    card = RepoCard(readme)
    card.data["models"] = list(models)
    card.data["preload_from_hub"] = [f"{model} {','.join(SERVED_FILES)}" for model in models]
    return str(card)


def _check_gradio_version(readme: str, requirements: str) -> None:
    from huggingface_hub import RepoCard

    stated = str(RepoCard(readme).data.get("sdk_version"))
    pinned = re.search(r"^gradio(?:\[[^\]]*\])?==([\w.]+)", requirements, re.MULTILINE)
    if pinned is None or pinned[1] != stated:
        raise InputError(
            f"{README} states sdk_version {stated} and {REQUIREMENTS} pins "
            f"{pinned[1] if pinned else 'no'} gradio: a Space needs the same version in both"
        )


def _is_excluded(path: Path) -> bool:
    hidden = any(part.startswith(".") or part == "__pycache__" for part in path.parts)
    return hidden or any(fnmatch.fnmatch(path.name, pattern) for pattern in NOT_UPLOADED)


def _set_models(api: HfApi, space: str, models: Sequence[str]) -> bool:
    """Sets `MODEL_ID`, if it has another value: every change restarts the Space.

    Returns:
        Whether it was set.
    """
    wanted = ",".join(models)
    try:
        variable = with_retries(lambda: api.get_space_variables(space)).get(MODEL_VARIABLE)
        if variable is not None and variable.value == wanted:
            return False
    except Exception as error:  # a Hub that does not list variables may still accept them
        logger.info("the variables of %s are not listed: %s", space, describe(error))
    with_retries(lambda: api.add_space_variable(space, MODEL_VARIABLE, wanted))
    return True


if __name__ == "__main__":
    sys.exit(command_line.run(main))
