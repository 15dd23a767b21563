"""The common output of the benchmarks: command, date and load, a JSON file, Markdown tables.

A document shows a table between `<!-- benchmarks/results/NAME.md -->` and `<!-- / -->`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import shlex
import socket
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from classifier import command_line, provenance
from classifier.errors import InputError
from classifier.files import write_atomically, write_text

PROJECT = Path(__file__).resolve().parent.parent
RESULTS = PROJECT / "benchmarks" / "results"
TABLE = re.compile(r"(<!-- benchmarks/results/([\w-]+\.md) -->\n).*?(<!-- / -->)", re.DOTALL)
IDLE = 1.0  # load: that of a process that has just ended is counted for a minute


def parser(benchmark: str, description: str) -> argparse.ArgumentParser:
    """Returns the parser of `python -m benchmarks.BENCHMARK`, with the option `--output`."""
    options = command_line.argument_parser(description, prog=f"python -m benchmarks.{benchmark}")
    options.add_argument(
        "--output", type=Path, metavar="DIR", help="where to write (default: benchmarks/results)"
    )
    return options


def circumstances(benchmark: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Returns the command, the date and the load before a measurement; warns of a load."""
    load = round(os.getloadavg()[0], 2)
    if load > IDLE:
        print(f"Other programs are running (load {load:.1f}): the figures will be worse.")
    return {**command_and_date(benchmark, arguments), "load_before": load}


def command_and_date(benchmark: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Returns the command and the date of a measurement."""
    command = shlex.join(["python", "-m", f"benchmarks.{benchmark}", *arguments])
    return {
        **provenance.without_local_paths({"command": command}),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def machine() -> dict[str, Any]:
    """Returns the machine and the versions of the libraries."""
    return {"machine": provenance.machine(), "versions": provenance.library_versions()}


def free_port() -> int:
    """Returns a port on loopback that no program uses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def markdown(header: Iterable[str], rows: Iterable[Iterable[str]], align: str) -> str:
    """Returns a table in Markdown; `align` has a letter per column, "l" or "r"."""
    rules = ["---:" if side == "r" else "---" for side in align]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rules, *rows))


def write(
    benchmark: str, result: Mapping[str, Any], tables: Mapping[str, str], folder: Path | None
) -> None:
    """Writes a result as `BENCHMARK.json`, and its tables, by file name; prints the tables.

    The folder is by default that of the results.
    """
    files = {f"{benchmark}.json": as_json(result), **tables}
    output = folder or RESULTS
    write_files({output / name: text for name, text in files.items()}, folder)
    print("\n".join(tables.values()))
    print(f"Written to {output}.")


def write_files(files: Mapping[Path, str | bytes], folder: Path | None) -> None:
    """Writes texts (UTF-8) and binary files; the documents follow, unless it is to a `folder`."""
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        write_atomically(path, partial(Path.write_bytes, data=data))
    if folder is None:
        refresh()


def as_json(result: Mapping[str, Any]) -> str:
    """Returns strict JSON with indented lines."""
    return json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def refresh(project: Path = PROJECT) -> None:
    """Writes the tables of `benchmarks/results/` into the README and `docs/` of a project.

    Raises:
        InputError: a document names a table that no benchmark wrote.
    """

    def with_table(found: re.Match[str]) -> str:
        path = project / "benchmarks" / "results" / found[2]
        if not path.is_file():
            raise InputError(f"{path.relative_to(project)} is not there: run its benchmark first")
        return f"{found[1]}\n{path.read_text(encoding='utf-8').strip()}\n\n{found[3]}"

    for path in (project / "README.md", *sorted(project.glob("docs/*.md"))):
        before = path.read_text(encoding="utf-8")
        after = TABLE.sub(with_table, before)
        if after != before:
            write_text(path, after)
