"""Updates the benchmark tables in the documents.

python -m benchmarks.readme        # every benchmark also does this at its end

A table is enclosed by `<!-- benchmarks/results/NAME.md -->` and `<!-- / -->`.
"""

import re
import sys
from pathlib import Path

from classifier import command_line
from classifier.errors import InputError
from classifier.files import write_text

PROJECT = Path(__file__).resolve().parent.parent
RESULTS = PROJECT / "benchmarks" / "results"
TABLE = re.compile(r"(<!-- benchmarks/results/([\w-]+\.md) -->\n).*?(<!-- / -->)", re.DOTALL)


def main(arguments: list[str]) -> None:
    """Updates the documents."""
    command_line.argument_parser(
        "Puts the tables that the benchmarks wrote into the documents.",
        prog="python -m benchmarks.readme",
    ).parse_args(arguments)
    refresh()


def refresh(project: Path = PROJECT) -> None:
    """Writes the tables of `benchmarks/results/` into the README and `docs/` of a project.

    Raises:
        InputError: a document names a table that no benchmark wrote.
    """
    for path in (project / "README.md", *sorted(project.glob("docs/*.md"))):
        before = path.read_text(encoding="utf-8")
        after = TABLE.sub(lambda found: _with_table(found, project), before)
        if after != before:
            write_text(path, after)


def _with_table(found: re.Match[str], project: Path) -> str:
    path = project / "benchmarks" / "results" / found[2]
    if not path.is_file():
        raise InputError(f"{path.relative_to(project)} is not there: run its benchmark first")
    return f"{found[1]}\n{path.read_text(encoding='utf-8').strip()}\n\n{found[3]}"


if __name__ == "__main__":
    sys.exit(command_line.run(main))
