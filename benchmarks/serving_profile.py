"""Where the app's time goes, from its start to the first answer, and within a call.

python -m benchmarks.serving_profile start
python -m benchmarks.serving_profile call
"""

from __future__ import annotations

import json
import os
import runpy
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for a script, too

from benchmarks.serving import PROJECT, Caller, started
from classifier import command_line

CALLS = 200
LINES = 25
EVERY = 0.001  # seconds between two looks at what the threads do
# Where a thread stands that waits for something else.
WAITING = {"select", "wait", "accept", "_recv", "_worker", "get", "poll", "_wait_for_tstate_lock"}
WAITING |= {"_answer_all", "_load_all", "_sample", "recv_into", "serve"}


def main(arguments: list[str]) -> None:
    """Measures what the first argument names; others are those of app.py."""
    parser = command_line.argument_parser(
        "Says where the app's time goes.", prog="python -m benchmarks.serving_profile"
    )
    parser.add_argument("what", choices=("start", "call"))
    options, rest = parser.parse_known_args(arguments)
    print((of_the_start if options.what == "start" else of_a_call)(rest))


def of_the_start(arguments: list[str]) -> str:
    """Returns the seconds that the imports of each package took, before the first answer."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "imports"
        command = ["sh", "-c", f'exec "$0" -X importtime "$@" 2> {log}', sys.executable, "app.py"]
        with started([*command, *arguments]) as app:
            lines = [f"page {app.first_page:.2f} s, first answer {app.first_answer:.2f} s"]
        own: Counter[str] = Counter()
        for line in log.read_text().splitlines():
            cells = line.removeprefix("import time:").split("|")
            if line.startswith("import time:") and cells[0].strip().isdigit():
                own[cells[2].strip().partition(".")[0]] += int(cells[0])
    lines += [f"{10**-6 * spent:6.2f} s  {package}" for package, spent in own.most_common(LINES)]
    return "\n".join(lines)


def of_a_call(arguments: list[str]) -> str:
    """Returns how long the three requests of a call take, and in which functions the app is."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "samples.json"
        command = [sys.executable, __file__, "sample", str(found), *arguments]
        with started(command) as app:
            visitor = Caller(app.url)
            found.with_suffix(".go").touch()
            steps = [visitor.steps() for _ in range(CALLS)]
        own, within = (Counter(counts) for counts in json.loads(found.read_text()))
    medians = [1000 * statistics.median(values) for values in zip(*steps, strict=True)]
    upload, question, answer = medians
    lines = [f"upload {upload:.1f} ms, question {question:.1f} ms, answer {answer:.1f} ms", ""]
    lines += ["samples within a function and what it calls:", *_shares(within, own.total())]
    return "\n".join([*lines, "", "samples in the function itself:", *_shares(own, own.total())])


def _shares(counts: Counter[str], total: int) -> Iterable[str]:
    return (f"{count / total:6.1%}  {name}" for name, count in counts.most_common(LINES))


def sample(path: Path, arguments: list[str]) -> None:
    """Runs the app, and writes what its threads were seen at, by function, when it ends."""
    own: Counter[str] = Counter()
    within: Counter[str] = Counter()
    threading.Thread(target=_sample, args=(path, own, within), daemon=True).start()
    sys.argv = ["app.py", *arguments]
    try:
        runpy.run_path(str(PROJECT / "app.py"), run_name="__main__")
    finally:
        path.write_text(json.dumps([own, within]))


def _sample(path: Path, own: Counter[str], within: Counter[str]) -> None:
    while not path.with_suffix(".go").exists():
        time.sleep(0.01)
    while True:
        time.sleep(EVERY)
        for frame in list(sys._current_frames().values()):
            if frame.f_code.co_name in WAITING:
                continue
            names = []
            while frame is not None:
                place = os.path.relpath(frame.f_code.co_filename, sys.prefix)
                names.append(f"{place}:{frame.f_code.co_name}")
                frame = frame.f_back
            own[names[0]] += 1
            within.update(set(names))


if __name__ == "__main__":
    if sys.argv[1:2] == ["sample"]:
        sample(Path(sys.argv[2]), sys.argv[3:])
    else:
        sys.exit(command_line.run(main))
