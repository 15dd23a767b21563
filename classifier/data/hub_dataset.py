"""Data sets of the Hub: downloaded at a fixed commit, read from the cache when offline."""

from __future__ import annotations

import contextlib
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

from classifier.data import array_cache
from classifier.data.labelled_images import LabelledImages
from classifier.data.source import DataSource
from classifier.errors import ClassifierError, InputError
from classifier.settings import DEFAULT_IMAGE_SIZE

if TYPE_CHECKING:
    from datasets import DatasetDict

COMMIT = re.compile("[0-9a-f]{40}")
# Ends of names that mean a file rather than a Hub id.
FILES = (".gz", ".tgz", ".tar", ".bz2", ".xz", ".zip", ".parquet")


def load_from_hub(
    source: DataSource, split: str, *, size: int = DEFAULT_IMAGE_SIZE
) -> LabelledImages:
    """Loads a split of a data set on the Hub, as `loading.load_split`.

    The data set is `user/name`, or `user/name@revision` with a branch, a tag or a commit. If the
    Hub cannot be reached, the data that was downloaded last is used.

    Raises:
        InputError: there is no such data set, revision, split or column, or the data is damaged.
        ClassifierError: the Hub cannot be reached and nothing is cached.
    """
    from huggingface_hub import constants

    name, revision = parse_hub_id(source.dataset)
    place = f"hub {constants.ENDPOINT} {name}@{revision or 'main'}"
    location = f"{place}\n{split}\n{source.label_column or ''}\n{source.config or ''}\n{size}"
    # A commit never changes: no request is needed.
    is_commit = revision is not None and COMMIT.fullmatch(revision)
    if is_commit and (stored := array_cache.find(location, revision)):
        return stored
    from classifier.data.image_table import read_split
    from classifier.data.local_dataset import load_tables
    from classifier.hub_client import HubError

    tables = None
    try:
        commit = _find_commit(name, revision)
    except HubError as error:
        reason = f"cannot reach the Hub at {constants.ENDPOINT} for {name} ({error})"
        stored = array_cache.find(location)
        if not stored:
            with contextlib.suppress(ClassifierError):
                tables = load_tables(name, name, source.config)  # `datasets` has a cache, too
        commit = str(stored.revision if stored else tables and _commit_of(tables))
        if not stored and (not tables or revision not in (None, "main", commit)):
            raise ClassifierError(
                f"{reason}, and the data is not in the cache: check the network, or give a folder "
                "or the Toronto archive"
            ) from error
        logging.getLogger(__name__).warning("%s: using cached data of commit %s", reason, commit)

    def read() -> LabelledImages:
        found = tables or load_tables(name, name, source.config, revision=commit)
        if _commit_of(found) not in (None, commit):  # `datasets` takes any that it has cached
            raise ClassifierError(
                f"{name} could not be downloaded at commit {commit[:7]}: check the network and "
                "try again"
            )
        return read_split(
            found, split, dataset=name, revision=commit, label_column=source.label_column, size=size
        )

    return array_cache.load_or_build(location, lambda: commit, read)


def parse_hub_id(dataset: str) -> tuple[str, str | None]:
    """Returns the repository and the revision; raises InputError if it is not a Hub id."""
    from classifier.hub_client import is_hub_id

    name, at, revision = dataset.partition("@")
    if not is_hub_id(name) or dataset.endswith(FILES) or bool(at) != bool(revision):
        raise InputError(
            f"there is no file or folder {dataset!r}, and it is not a Hub id: give user/name, "
            "user/name@revision, a folder, a ZIP of images, or the Toronto archive"
        )
    return name, revision or None


def _find_commit(name: str, revision: str | None) -> str:
    """Returns the commit that a revision points to, as the Hub says."""
    from huggingface_hub import constants, errors

    from classifier.hub_client import HubError, connect, describe

    try:
        found = connect().dataset_info(name, revision=revision, expand=["sha"])
        if found.sha:
            return found.sha
        raise ValueError("the answer names no commit")
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise InputError(
            f"{name} is neither a file or folder here nor, with the revision {revision or 'main'}, "
            "a data set on the Hub that you may read: check the spelling; log in with `hf auth "
            f"login` if it is private; if it is gated, accept its terms on {constants.ENDPOINT}"
            f"/datasets/{name}"
        ) from error
    except Exception as error:  # DNS, sockets, proxies, login pages: all mean that there is no Hub
        raise HubError(describe(error)) from error


def _commit_of(tables: DatasetDict) -> str | None:
    """Returns the commit of these tables: `datasets` names the folder of their files after it."""
    files = [file["filename"] for table in tables.values() for file in table.cache_files]
    return Path(files[0]).parent.name if files else None
