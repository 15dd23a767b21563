"""Pulls a model folder from the Hub, or from the local cache when the Hub fails; never hangs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from classifier.errors import ClassifierError, InputError
from classifier.files import write_atomically
from classifier.hub.access import check_repo_id
from classifier.hub.commit import MAIN, Target, remote_files
from classifier.hub_client import (
    FORBIDDEN,
    MISSING,
    HubError,
    connect,
    describe,
    status_of,
    with_retries,
)
from classifier.model_folder.folder import BYTES, NEEDED_TO_PUBLISH, NEEDED_TO_SERVE, ModelFolder

if TYPE_CHECKING:
    from huggingface_hub import HfApi, RepoFile

T = TypeVar("T")
START_UP_SECONDS = 8.0  # with what comes after it, an app starts within 10 s
SHORT_WAITS = (1.0, 2.0)  # seconds between attempts while an app waits to start
# Everything but the plots and the event files: the app draws its own figures.
SERVED_FILES = NEEDED_TO_PUBLISH


class ModelNotFoundError(InputError):
    """The Hub says that there is no such model or revision, or that it may not be read."""


@dataclass(frozen=True)
class Pulled:
    """A model folder that came from the Hub, now or earlier; it is checked.

    Attributes:
        folder: the model folder, in the cache of huggingface_hub.
        repo_id: user/name.
        commit: the hash of the commit.
        source: "hub", or "cache" if the Hub failed.
        reason: why it is the cache, None otherwise.
    """

    folder: ModelFolder
    repo_id: str
    commit: str
    source: str
    reason: str | None = None


def pull(
    repo_id: str,
    *,
    revision: str | None = None,
    timeout: float | None = START_UP_SECONDS,
    token: str | None = None,
) -> Pulled:
    """Fetches what serving a model needs, and checks it; from the cache when the Hub fails.

    A download that takes longer than `timeout` goes on in the background, so that the next call
    finds it in the cache.

    Args:
        repo_id: user/name.
        revision: a branch, tag or commit; main if not given.
        timeout: seconds after which the cache is used; None waits as long as the Hub does answer.
        token: otherwise huggingface_hub looks for one.

    Raises:
        ModelNotFoundError: the Hub says that there is no such model, or that it may not be read.
        InputError: the name is none, or the repository holds no model that we would load.
        HubError: the Hub fails and the cache does not hold the revision.
    """
    check_repo_id(repo_id, "the model")
    api = connect(token)
    try:
        return _begin(lambda: _from_hub(api, repo_id, revision)).result(timeout)
    except InputError:
        raise
    except Exception as error:
        if timeout is not None and isinstance(error, FutureTimeout):
            reason = f"{api.endpoint} did not answer within {timeout:.0f} s"
        else:
            reason = describe(error)
        return _from_cache(repo_id, revision, reason, error)


def commit_at(repo_id: str, *, revision: str | None = None, token: str | None = None) -> str:
    """Asks the Hub which commit a branch or tag stands at.

    Raises:
        ModelNotFoundError: as in `pull`.
        Exception: what the client raises while the Hub cannot be reached.
    """
    return _commit(connect(token), repo_id, revision)


def _commit(api: HfApi, repo_id: str, revision: str | None) -> str:
    with _denials(repo_id, revision):
        info = with_retries(
            lambda: api.model_info(repo_id, revision=revision, timeout=START_UP_SECONDS),
            waits=SHORT_WAITS,
        )
    if not info.sha:
        raise ModelNotFoundError(f"{repo_id} on the Hub is empty: publish a model to it first")
    return info.sha


def _from_hub(api: HfApi, repo_id: str, revision: str | None) -> Pulled:
    commit = _commit(api, repo_id, revision)
    with _denials(repo_id, revision):
        there = remote_files(api, Target(repo_id, "model", MAIN, commit))
        files = {name: file for name, file in there.items() if name in SERVED_FILES}
        _check_listing(files, repo_id)
        path = _download(api, repo_id, commit, files)
        _mend_damaged(api, repo_id, commit, files)
    folder = ModelFolder(path)
    folder.check()
    _remember(path, revision or MAIN, commit)
    return Pulled(folder, repo_id, commit, "hub")


def _download(api: HfApi, repo_id: str, commit: str, files: Iterable[str]) -> Path:
    """Fetches files that are not yet in the cache, and returns the folder that they lie in.

    By its commit: what the cache knows as the branch is still the last good one. In threads of our
    own: the program would wait at its end for those that `snapshot_download` begins.
    """
    downloads = [
        _begin(lambda name=name: api.hf_hub_download(repo_id, name, revision=commit))  # type: ignore[misc]
        for name in files
    ]
    paths = [download.result() for download in downloads]
    return Path(paths[0]).parent


def _remember(snapshot: Path, revision: str, commit: str) -> None:
    """Makes the cache know a commit as the branch, now that all of it is here and good.

    The file is part of the layout that huggingface_hub documents of its cache.
    """
    if revision == commit:
        return
    reference = snapshot.parents[1] / "refs" / revision
    with contextlib.suppress(OSError):  # a cache that cannot be written still serves
        reference.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(reference, lambda path: path.write_text(commit, encoding="utf-8"))


def _check_listing(files: dict[str, RepoFile], repo_id: str) -> None:
    """Refuses a repository, before anything is downloaded, that cannot be a model folder."""
    missing = [name for name in NEEDED_TO_SERVE if name not in files]
    if missing:
        raise InputError(
            f"{repo_id} on the Hub holds no model of this project: it lacks {', '.join(missing)}"
        )
    for name, file in files.items():
        if file.size > BYTES[name]:
            raise InputError(
                f"{name} of {repo_id} on the Hub has {file.size:,} bytes: more than the "
                f"{BYTES[name]:,} that are read"
            )


def _mend_damaged(api: HfApi, repo_id: str, commit: str, files: dict[str, RepoFile]) -> None:
    """Fetches files once more whose checksum is not the one that the Hub states.

    Raises:
        HubError: a file differs again; it does not stay in the cache.
    """
    damaged = _damaged(api, repo_id, commit, files)
    for name in damaged:
        api.hf_hub_download(repo_id, name, revision=commit, force_download=True)
    for name in damaged and _damaged(api, repo_id, commit, files):
        path = Path(api.hf_hub_download(repo_id, name, revision=commit, local_files_only=True))
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise HubError(f"{name} of {repo_id} arrived damaged, twice: its checksum is wrong")


def _damaged(api: HfApi, repo_id: str, commit: str, files: dict[str, RepoFile]) -> set[str]:
    found = api.verify_repo_checksums(repo_id, revision=commit).mismatches
    damaged = {item["path"] for item in found} & set(files)
    # Files outside of LFS have Git's hash; where none of them fits, the Hub has hashes of its own.
    plain = {name for name, file in files.items() if file.lfs is None}
    return damaged - plain if plain <= damaged else damaged


def _from_cache(repo_id: str, revision: str | None, reason: str, error: Exception) -> Pulled:
    from huggingface_hub import snapshot_download

    named = repo_id if revision is None else f"{repo_id} at {revision}"
    try:
        path = Path(
            snapshot_download(
                repo_id,
                revision=revision,
                allow_patterns=list(SERVED_FILES),
                local_files_only=True,
            )
        )
        folder = ModelFolder(path)
        folder.check()
    except (OSError, ClassifierError) as cached:
        state = "damaged" if isinstance(cached, ClassifierError) else "missing or incomplete"
        raise HubError(
            f"cannot get {named} from the Hub ({reason}), and in the local cache it is {state}: "
            "check the network and try again"
        ) from error
    return Pulled(folder, repo_id, path.name, "cache", reason)


@contextlib.contextmanager
def _denials(repo_id: str, revision: str | None) -> Iterator[None]:
    """Raises `ModelNotFoundError` if the Hub's answer is a sure no."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise ModelNotFoundError(
            f"{repo_id} is gated: accept its terms on the Hub, and log in with `hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelNotFoundError(
            f"{repo_id} has no revision {revision!r} on the Hub: name a branch, a tag or a commit"
        ) from error
    except Exception as error:
        if status_of(error) not in MISSING | FORBIDDEN:
            raise
        raise ModelNotFoundError(
            f"there is no model {repo_id} on the Hub that may be read: check the spelling, and log "
            "in with `hf auth login` if it is private"
        ) from error


def _begin(call: Callable[[], T]) -> Future[T]:
    """Calls in a thread that goes on when nobody waits any more, and ends with the program."""
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, name="hub-download", daemon=True).start()
    return future
