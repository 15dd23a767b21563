"""Where a study is kept, so that any number of workers on any number of machines can share it."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import sqlalchemy.exc
from optuna.storages import BaseStorage, GrpcStorageProxy, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.engine import make_url

from classifier.errors import ClassifierError, InputError

FORMS = "sqlite:///FILE, postgresql://USER@HOST/NAME, journal:FILE or grpc:HOST:PORT"
DRIVER = "pip install 'psycopg[binary]'"  # SQLAlchemy 2.1 takes psycopg for postgresql://
PASSWORD = re.compile(r"(://[^:/@]*:).*(@)")
PATIENCE = 10  # seconds for a server to answer
LOCK_PATIENCE = 60  # seconds to wait for another worker that is writing to the same SQLite file
ATTEMPTS = 5  # to make a new database's tables, which another worker may be making just now

StaleTrial = Callable[[optuna.Study, optuna.trial.FrozenTrial], None]


def open_storage(url: str, *, grace: int, when_stale: StaleTrial) -> BaseStorage:
    """Opens the storage that a URL names, or makes it.

    Args:
        url: one of `FORMS`.
        grace: seconds of silence after which a worker of a database counts as lost.
        when_stale: called with each trial that was lost with its worker, in a database; other
            storages know no heartbeat (see `classifier.search.lost`).

    Raises:
        InputError: the URL is none of the forms, or a package for it is not installed.
        ClassifierError: there is no answer, or it is no storage of studies.
    """
    check_url(url)
    scheme, _, rest = url.partition(":")
    if scheme == "journal":
        return _open_journal(Path(rest))
    if scheme == "grpc":
        return _open_grpc(rest)
    return _open_database(url, grace, when_stale)


def check_url(url: str) -> None:
    """Raises `InputError` if a URL is none of the `FORMS`; opens nothing."""
    scheme, _, rest = url.partition(":")
    wrong = InputError(f"--storage takes {FORMS}. Received: {without_password(url)!r}")
    if scheme == "journal":
        if not rest or rest.startswith("//"):
            raise wrong
    elif scheme == "grpc":
        _host_and_port(rest)
    elif scheme == "sqlite" or scheme.partition("+")[0] == "postgresql":
        try:
            database = make_url(url).database
        except (sqlalchemy.exc.ArgumentError, ValueError):
            raise wrong from None
        if not database or database == ":memory:":
            kind = "a file, as in sqlite:///runs/study.db" if scheme == "sqlite" else "a database"
            raise InputError(
                f"--storage {scheme} needs {kind}. Received: {without_password(url)!r}"
            )
    else:
        raise wrong


def without_password(url: str) -> str:
    """Returns the URL as it may be shown and written down."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        return PASSWORD.sub(r"\1***\2", url)


def _open_journal(path: Path) -> JournalStorage:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(path)))
    except OSError as error:
        reason = error.strerror or error
        raise ClassifierError(f"cannot keep a study in {path}: {reason}") from error
    except ValueError as error:
        raise InputError(f"{path} is not the journal of a study ({error})") from error


def _open_grpc(address: str) -> GrpcStorageProxy:
    host, port = _host_and_port(address)
    try:
        import grpc  # noqa: F401 - optuna imports it late, with a long error

        proxy = GrpcStorageProxy(host=host, port=port)
        proxy.wait_server_ready(timeout=PATIENCE)
    except ImportError:
        raise InputError(
            "--storage grpc needs grpcio and protobuf: pip install grpcio protobuf"
        ) from None
    except ConnectionError as error:
        raise ClassifierError(
            f"no study server answers at {host}:{port} within {PATIENCE} s: start one with "
            "optuna.storages.run_grpc_proxy_server, or mend --storage"
        ) from error
    return proxy


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.strip("/").rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 65536):
        raise InputError(f"--storage grpc takes HOST:PORT. Received: {address!r}")
    return host, int(port)


def _open_database(url: str, grace: int, when_stale: StaleTrial) -> RDBStorage:
    shown = without_password(url)
    options = {"timeout": LOCK_PATIENCE} if url.startswith("sqlite") else {}
    if url.startswith("sqlite"):
        _make_folder(url)
    else:
        options = {"connect_timeout": PATIENCE}
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return RDBStorage(
                url,
                engine_kwargs={"connect_args": options, "pool_pre_ping": True},
                heartbeat_interval=max(1, grace // 4),
                grace_period=grace,
                heartbeat_stale_trial_callback=when_stale,
            )
        except ImportError as error:
            raise InputError(
                f"--storage {shown} needs a driver that is not installed; the one of "
                f"postgresql://… comes with: {DRIVER}"
            ) from error
        except sqlalchemy.exc.ArgumentError as error:
            raise InputError(f"--storage takes {FORMS}. Received: {shown!r}") from error
        except (sqlalchemy.exc.SQLAlchemyError, sqlite3.Error, RuntimeError) as error:
            if attempt == ATTEMPTS or not _made_by_another(error):
                raise ClassifierError(
                    f"cannot keep a study in {shown}: {_reason(error)}"
                ) from error
            time.sleep(0.2 * attempt)
    raise AssertionError("unreachable")


def _make_folder(url: str) -> None:
    database = make_url(url).database or ""
    try:
        Path(database).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ClassifierError(f"cannot keep a study in {database}: {error.strerror}") from error


def _made_by_another(error: Exception) -> bool:
    """Whether another worker was quicker to make the tables or their version."""
    return isinstance(error, sqlalchemy.exc.IntegrityError) or "already exists" in str(error)


def _reason(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0]
