"""Opens the storage of a study, which workers on several machines can share."""

from __future__ import annotations

import re
import sqlite3
import time
from pathlib import Path
from typing import Any

import sqlalchemy.exc
from optuna.storages import BaseStorage, GrpcStorageProxy, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.engine import make_url

from classifier.errors import ClassifierError, InputError

URL_FORMS = "sqlite:///FILE, postgresql://USER@HOST/NAME, journal:FILE or grpc:HOST:PORT"
DRIVER_INSTALL = "pip install 'psycopg[binary]'"  # SQLAlchemy 2.1 takes psycopg for postgresql://
PASSWORD = re.compile(r"(://[^:/@]*:).*(@)")
CONNECT_TIMEOUT = 10  # seconds to connect to a server
LOCK_TIMEOUT = 60  # seconds to wait while another worker writes to the same SQLite file
MAX_ATTEMPTS = 5  # to create the tables of a new database, which other workers may do at once


def open_storage(url: str) -> BaseStorage:
    """Opens the storage at a URL, or creates it.

    Args:
        url: one of `URL_FORMS`.

    Raises:
        InputError: the URL is invalid, or a package for it is not installed.
        ClassifierError: the storage does not answer, or is not a storage of studies.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "journal" and rest and not rest.startswith("//"):
        return _open_journal(Path(rest))
    if scheme == "grpc":
        return _open_grpc(rest)
    if scheme == "sqlite" or scheme.partition("+")[0] == "postgresql":
        return _open_database(url)
    raise _invalid(url)


def _invalid(url: str) -> InputError:
    return InputError(f"--storage takes {URL_FORMS}. Received: {without_password(url)!r}")


def without_password(url: str) -> str:
    """Returns the URL with its password hidden."""
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
        raise ClassifierError(f"cannot store a study in {path}: {reason}") from error
    except ValueError as error:
        raise InputError(f"{path} is not the journal of a study ({error})") from error


def _open_grpc(address: str) -> GrpcStorageProxy:
    host, _, port = address.strip("/").rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 65536):
        raise InputError(f"--storage grpc takes HOST:PORT. Received: {address!r}")
    try:
        import grpc  # noqa: F401 - optuna would fail later, with a long message

        proxy = GrpcStorageProxy(host=host, port=int(port))
        proxy.wait_server_ready(timeout=CONNECT_TIMEOUT)
    except ImportError:
        raise InputError(
            "--storage grpc needs grpcio and protobuf: pip install grpcio protobuf"
        ) from None
    except ConnectionError as error:
        raise ClassifierError(
            f"no study server answers at {host}:{port} within {CONNECT_TIMEOUT} s: start one with "
            "optuna.storages.run_grpc_proxy_server, or correct --storage"
        ) from error
    return proxy


def _open_database(url: str) -> RDBStorage:
    shown = without_password(url)
    try:
        database = make_url(url).database
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise _invalid(url) from None
    is_file = url.startswith("sqlite:")
    if not database or database == ":memory:":
        needed = "a file, as in sqlite:///runs/study.db" if is_file else "a database"
        raise InputError(f"--storage {url.partition(':')[0]} needs {needed}. Received: {shown!r}")
    options: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT}
    if is_file:
        options = {"timeout": LOCK_TIMEOUT}
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            if is_file:
                Path(database).parent.mkdir(parents=True, exist_ok=True)
            return RDBStorage(url, engine_kwargs={"connect_args": options, "pool_pre_ping": True})
        except ImportError as error:
            raise InputError(
                f"--storage {shown} needs a driver that is not installed; for "
                f"postgresql://… run: {DRIVER_INSTALL}"
            ) from error
        except sqlalchemy.exc.ArgumentError:
            raise _invalid(url) from None
        except (sqlalchemy.exc.SQLAlchemyError, sqlite3.Error, OSError, RuntimeError) as error:
            # Another worker may have created the tables at the same time.
            raced = isinstance(error, sqlalchemy.exc.IntegrityError) or "already exists" in str(
                error
            )
            if attempt == MAX_ATTEMPTS or not raced:
                reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
                raise ClassifierError(f"cannot store a study in {shown}: {reason}") from error
            time.sleep(0.2 * attempt)
    raise AssertionError("unreachable")
