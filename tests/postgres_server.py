"""A PostgreSQL server of the tests' own on loopback, where its programs are installed."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ports import free_port

PASSWORD = "secret"


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of an empty database; skips where the server or its driver is not installed."""
    pytest.importorskip("psycopg", reason="the driver of PostgreSQL is not installed: psycopg")
    programs = find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed here: apt-get install postgresql")
    with postgres(programs) as url:
        yield url


def find_programs() -> Path | None:
    """Returns the folder of the server's programs, which Debian keeps off the path."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "pg_ctl").exists()), None)


@contextlib.contextmanager
def postgres(programs: Path) -> Iterator[str]:
    """Starts a server with an empty database, which asks for a password; ends it afterwards."""
    # Not pytest's folder: the server refuses to run as root, and others may not read that one.
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    account = {}
    if os.geteuid() == 0:
        user = pwd.getpwnam("nobody")
        os.chown(folder, user.pw_uid, user.pw_gid)
        account = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    port = free_port()
    password = folder / "password"
    password.write_text(PASSWORD)
    password.chmod(0o644)

    def call(program: str, *arguments: object) -> None:
        command = [programs / program, *map(str, arguments)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(command, check=True, cwd=folder, timeout=300, **account, **quiet)

    data = folder / "data"
    call("initdb", "-D", data, "-U", "me", "-A", "scram-sha-256", f"--pwfile={password}", "-N")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    call("pg_ctl", "-D", data, "-l", folder / "log", "-o", options, "-w", "start")
    try:
        yield f"postgresql://me:{PASSWORD}@127.0.0.1:{port}/postgres"
    finally:
        call("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder)
