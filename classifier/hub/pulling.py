"""Downloads a model folder from the Hub, or takes it from the cache if the Hub fails."""

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
from classifier.files import write_text
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
from classifier.model_folder.folder import (
    MAX_FILE_BYTES,
    NEEDED_TO_PUBLISH,
    NEEDED_TO_SERVE,
    ModelFolder,
)

if TYPE_CHECKING:
    from huggingface_hub import HfApi, RepoFile

T = TypeVar("T")
START_UP_SECONDS = 8.0  # leaves 2 s for the rest: the app starts within 10 s
START_UP_BACKOFF = (1.0, 2.0)  # seconds between attempts at the start of an app
# All but plots and event files: the app draws its own figures.
SERVED_FILES = NEEDED_TO_PUBLISH


class ModelNotFoundError(InputError):
    """The model or revision does not exist on the Hub, or access is denied."""


@dataclass(frozen=True)
class Pulled:
    """A model folder from the Hub or its cache, already checked.

    Attributes:
        folder: the model folder, in the cache of huggingface_hub.
        repo_id: user/name.
        commit: the hash of the commit.
        source: "hub", or "cache" if the Hub failed.
        reason: why the cache was used, None if it was not.
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
    """Downloads and checks the files for serving a model; uses the cache if the Hub fails.

    A download that takes longer than `timeout` continues in the background; the next call finds it
    in the cache.

    Args:
        repo_id: user/name.
        revision: a branch, tag or commit; main if not given.
        timeout: seconds after which the cache is used; None waits as long as the Hub answers.
        token: by default the one that huggingface_hub finds.

    Raises:
        ModelNotFoundError: the model does not exist on the Hub, or access is denied.
        InputError: the name is invalid, or the repository contains no model that can be loaded.
        HubError: the Hub fails and the revision is not in the cache.
    """
    check_repo_id(repo_id, "the model")
    api = connect(token)
    try:
        return _run_in_thread(lambda: _from_hub(api, repo_id, revision)).result(timeout)
    except InputError:
        raise
    except Exception as error:
        if timeout is not None and isinstance(error, FutureTimeout):
            reason = f"{api.endpoint} did not answer within {timeout:.0f} s"
        else:
            reason = describe(error)
        return _from_cache(repo_id, revision, reason, error)


def commit_at(repo_id: str, *, revision: str | None = None, token: str | None = None) -> str:
    """Returns the commit that a branch or tag points to on the Hub.

    Raises:
        ModelNotFoundError: as in `pull`.
        Exception: any error of the client, if the Hub cannot be reached.
    """
    return _commit(connect(token), repo_id, revision)


def _commit(api: HfApi, repo_id: str, revision: str | None) -> str:
    with _raise_not_found(repo_id, revision):
        info = with_retries(
            lambda: api.model_info(repo_id, revision=revision, timeout=START_UP_SECONDS),
            backoff=START_UP_BACKOFF,
        )
    if not info.sha:
        raise ModelNotFoundError(f"{repo_id} on the Hub is empty: publish a model to it first")
    return info.sha


def _from_hub(api: HfApi, repo_id: str, revision: str | None) -> Pulled:
    commit = _commit(api, repo_id, revision)
    with _raise_not_found(repo_id, revision):
        remote = remote_files(api, Target(repo_id, "model", MAIN, commit))
        files = {name: file for name, file in remote.items() if name in SERVED_FILES}
        _check_listing(files, repo_id)
        path = _download(api, repo_id, commit, files)
        _redownload_damaged(api, repo_id, commit, files)
    folder = ModelFolder(path)
    folder.check()
    _update_cached_reference(path, revision or MAIN, commit)
    return Pulled(folder, repo_id, commit, "hub")


def _download(api: HfApi, repo_id: str, commit: str, files: Iterable[str]) -> Path:
    """Downloads files that are not in the cache, and returns their folder.

    By commit: the branch in the cache still points to the last complete model. In daemon threads: a
    program that ends would wait for the threads of `snapshot_download`.
    """
    downloads = [
        _run_in_thread(lambda name=name: api.hf_hub_download(repo_id, name, revision=commit))  # type: ignore[misc]
        for name in files
    ]
    paths = [download.result() for download in downloads]
    return Path(paths[0]).parent


def _update_cached_reference(snapshot: Path, revision: str, commit: str) -> None:
    """Lets the branch in the cache point to a commit that is complete and checked.

    The file belongs to the cache layout that huggingface_hub documents.
    """
    if revision == commit:
        return
    reference = snapshot.parents[1] / "refs" / revision
    with contextlib.suppress(OSError):  # a read-only cache can still be used
        reference.parent.mkdir(parents=True, exist_ok=True)
        write_text(reference, commit)


def _check_listing(files: dict[str, RepoFile], repo_id: str) -> None:
    """Raises InputError, before any download, if a repository is not a model folder."""
    missing = [name for name in NEEDED_TO_SERVE if name not in files]
    if missing:
        raise InputError(
            f"{repo_id} on the Hub is not a model folder: it lacks {', '.join(missing)}"
        )
    for name, file in files.items():
        if file.size > MAX_FILE_BYTES[name]:
            raise InputError(
                f"{name} of {repo_id} on the Hub has {file.size:,} bytes: more than the "
                f"{MAX_FILE_BYTES[name]:,} that are allowed"
            )


def _redownload_damaged(api: HfApi, repo_id: str, commit: str, files: dict[str, RepoFile]) -> None:
    """Downloads files with a wrong checksum again.

    Raises:
        HubError: the checksum of a file is wrong again; it is removed from the cache.
    """
    damaged = _damaged(api, repo_id, commit, files)
    for name in damaged:
        api.hf_hub_download(repo_id, name, revision=commit, force_download=True)
    for name in damaged and _damaged(api, repo_id, commit, files):
        path = Path(api.hf_hub_download(repo_id, name, revision=commit, local_files_only=True))
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise HubError(
            f"{name} of {repo_id} was damaged twice in the download: its checksum is wrong"
        )


def _damaged(api: HfApi, repo_id: str, commit: str, files: dict[str, RepoFile]) -> set[str]:
    found = api.verify_repo_checksums(repo_id, revision=commit).mismatches
    damaged = {item["path"] for item in found} & set(files)
    # Files outside of LFS have Git's hash. If none of them matches, the Hub uses other hashes.
    plain = {name for name, file in files.items() if file.lfs is None}
    return damaged - plain if plain <= damaged else damaged


def _from_cache(repo_id: str, revision: str | None, reason: str, error: Exception) -> Pulled:
    from huggingface_hub import snapshot_download

    label = repo_id if revision is None else f"{repo_id} at {revision}"
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
            f"cannot get {label} from the Hub ({reason}), and in the local cache it is {state}: "
            "check the network and try again"
        ) from error
    return Pulled(folder, repo_id, path.name, "cache", reason)


@contextlib.contextmanager
def _raise_not_found(repo_id: str, revision: str | None) -> Iterator[None]:
    """Converts errors about a missing or inaccessible model to `ModelNotFoundError`."""
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
            f"there is no accessible model {repo_id} on the Hub: check the spelling, and log "
            "in with `hf auth login` if it is private"
        ) from error


def _run_in_thread(call: Callable[[], T]) -> Future[T]:
    """Calls a function in a daemon thread, which does not delay the end of the program."""
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, name="hub-download", daemon=True).start()
    return future
