"""Opens the database of a study, which workers on several machines can share."""

from __future__ import annotations

import re
import time
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from classifier.errors import ClassifierError, InputError
from classifier.settings import Settings

URL_FORMS = "sqlite:///FILE or postgresql://USER@HOST/NAME"
PASSWORD = re.compile(r"(://[^:/@]*:).*(@)")
# Seconds: to connect, and to wait while another program, such as a backup, locks an SQLite file.
TIMEOUTS = {"postgresql": {"connect_timeout": 10}, "sqlite": {"timeout": 300}}
ATTEMPTS = 5  # to create the tables of a new database, which other workers may do at once
MAX_RETRIES = 3  # of a trial whose worker was killed: perhaps its settings do that


def without_password(url: str) -> str:
    """Returns the URL with its password hidden."""
    return PASSWORD.sub(r"\1***\2", url)


def open_storage(url: str, *, grace: int = 60) -> RDBStorage:
    """Opens the database at a URL of `URL_FORMS`, or creates it.

    A trial without a heartbeat for `grace` seconds is failed and queued again by other workers.

    Raises:
        InputError: the URL is invalid.
        ClassifierError: the database does not answer, or is not one of studies.
    """
    shown = without_password(url)
    try:
        address = make_url(url)
    except (ArgumentError, ValueError):
        address = URL.create("unknown")
    kind, database = address.get_backend_name(), address.database
    if kind not in TIMEOUTS or not database or database == ":memory:":
        raise InputError(f"--storage takes {URL_FORMS}. Received: {shown!r}")
    for _ in range(ATTEMPTS):
        try:
            return RDBStorage(
                # Quoted, since Optuna takes braces for fields of a format string.
                address.render_as_string(hide_password=False),
                engine_kwargs={"connect_args": TIMEOUTS[kind], "pool_pre_ping": True},
                heartbeat_interval=max(1, grace // 4),
                grace_period=grace,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(MAX_RETRIES),
            )
        except (SQLAlchemyError, OSError, RuntimeError) as error:
            # Without SQLAlchemy's statement.
            reason = str(getattr(error.__cause__ or error, "orig", None) or error).strip()
            # Optuna does not expect another worker to create the same tables at the same time.
            if not re.search("already exists|unique", reason, re.IGNORECASE):
                break
            time.sleep(0.5)
    raise ClassifierError(f"cannot store a study in {shown}: {reason.splitlines()[0]}")


def open_study(
    storage: RDBStorage, name: str, *, pruner: BasePruner, config: dict[str, Any]
) -> optuna.Study:
    """Opens a study, or creates it with a configuration that all its trials share, as JSON.

    Raises:
        InputError: the study exists with another configuration.
    """
    study = optuna.create_study(
        study_name=name, storage=storage, direction="maximize", pruner=pruner, load_if_exists=True
    )
    stored = study.user_attrs.get("config")
    if stored is None:
        study.set_user_attr("config", stored := config)
    known = {**Settings().to_dict(), **stored}  # which may lack newer settings
    for key, value in config.items():
        if known.get(key) != value:
            raise InputError(
                f"the study {name!r} has {key} {known.get(key)!r}, not {value!r}: use the same "
                "options as before, or another name with --study-name"
            )
    return study
