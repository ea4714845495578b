"""Makes a page of results again: trains, samples, evaluates, and writes the page's table.

python experiments/results/make.py sagan_mnist --data_dir=DIR
python experiments/results/make.py --check

What a page needs is in PAGE.toml beside it:

    minutes = 15                      # of processor time for each run; none: all steps
    classifier = ["--dataset=mnist"]  # flags of train_classifier.py; none: the data set's own
    train = ["--dataset=mnist"]       # flags of train.py for all runs
    sample = ["--num=10"]             # of sample.py, for runs without their own; may be left out
    evaluate = ["--num_images=10000"] # of evaluate.py, likewise but for all runs
    code = ["jaxgan/models/sagan.py"] # what makes the page old when it changes; none: by the method

    [runs.one_rate]
    train = ["--set=learning_rate=4e-4"]
    minutes = 20

The same command again goes on where it was. The table stands between two markers in PAGE.md, and
what is outside them is written by hand. --check lists each page with its commit and its age, and
the code that has changed since.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import platform
import re
import signal
import subprocess
import sys
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- written by make.py -->", "<!-- end -->"
SHARED = ["core.py", "step.py", "stages.py", "losses.py", "penalties.py", "optim.py"]
SHARED += ["layers", "augment", "models/common.py", "evaluation/distances"]
POLL = 2.0
"""Seconds between two looks at the processor time of a training."""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", nargs="?", help="the name of a .toml beside this file, or its path")
    parser.add_argument("--check", action="store_true", help="list the pages and their age")
    parser.add_argument("--data_dir", help="where the pictures are")
    parser.add_argument("--runs", default="runs/results", help="where the runs are kept")
    asked = parser.parse_args(argv)
    if asked.check:
        print(check(pathlib.Path(__file__).parent))
    elif asked.page is None:
        parser.error("name a page, or --check")
    else:
        make(_described(parser, asked.page), pathlib.Path(asked.runs), asked.data_dir)


def _described(parser: argparse.ArgumentParser, page: str) -> pathlib.Path:
    here = pathlib.Path(__file__).parent
    path = pathlib.Path(page) if page.endswith(".toml") else here / f"{page}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in here.glob("*.toml")))
        parser.error(f"there is no {path}; known pages: {known or 'none yet'}")
    return path


def make(description: pathlib.Path, folder: pathlib.Path, data_dir: str | None) -> None:
    """Does what is missing of a page's runs, then writes its table."""
    about = tomllib.loads(description.read_text())
    folder = folder.resolve() / description.stem
    folder.mkdir(parents=True, exist_ok=True)
    data = [f"--data_dir={pathlib.Path(data_dir).resolve()}"] if data_dir else []
    for name, run in about["runs"].items():
        workdir = f"--workdir={folder / name}"
        ledger = Ledger(folder / f"{name}.json")
        flags = [*about.get("train", []), *run.get("train", []), *data, workdir]
        train(ledger, flags, run.get("minutes", about.get("minutes")))
        if not ledger["evaluated"]:
            features = []
            if "classifier" in about:
                weights = folder / "classifier.npz"
                if not weights.exists():
                    command("train_classifier", *about["classifier"], *data, f"--out={weights}")
                features = [f"--features={weights}"]
            picture = description.with_name(f"{description.stem}_{name}.png")
            drawn = run.get("sample", about.get("sample", []))
            command("sample", workdir, *drawn, f"--out={picture}")
            command("evaluate", workdir, *about.get("evaluate", []), *features, *data)
            ledger.write(evaluated=commit())
        write_table(description.with_suffix(".md"), table(folder, list(about["runs"])))


class Ledger(dict):
    """What a run has cost so far and what made it, in a file."""

    def __init__(self, path: pathlib.Path) -> None:
        super().__init__(seconds=0.0, ended=False, commits=[], device=_device(), evaluated="")
        self.path = path
        if path.exists():
            self.update(json.loads(path.read_text()))

    def write(self, **changes) -> None:
        self.update(changes)
        whole = self.path.with_suffix(".tmp")
        whole.write_text(json.dumps(self))
        os.replace(whole, self.path)


def train(ledger: Ledger, flags: list[str], minutes: float | None) -> None:
    """Trains to the end, or until the processor time of all resumptions is spent.

    The time counts start and compilation, and the last save goes beyond it.
    """
    left = float("inf") if minutes is None else 60 * minutes - ledger["seconds"]
    if ledger["ended"] or left <= 0:
        return
    before, made_by = ledger["seconds"], [*ledger["commits"], commit()]
    ledger.write(commits=list(dict.fromkeys(made_by)), evaluated="")
    process = subprocess.Popen([sys.executable, ROOT / "experiments/train.py", *flags])
    stopped = False
    try:
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            ledger.write(seconds=before + _processor_seconds(process.pid))
            if not stopped and ledger["seconds"] - before >= left:
                process.send_signal(signal.SIGTERM)  # it saves, then ends
                stopped = True
            time.sleep(POLL)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        raise
    process.returncode = code = os.waitstatus_to_exitcode(status)
    ledger.write(seconds=before + usage.ru_utime + usage.ru_stime, ended=code == 0)
    if code != 0 and not (stopped and code in (128 + signal.SIGTERM, -signal.SIGTERM)):
        raise SystemExit(f"train.py ended with status {code}; what it said is above")


def _processor_seconds(pid: int) -> float:
    """Returns user and system time of a process, which ps writes as [[days-]hours:]min:s."""
    told = subprocess.run(["ps", "-o", "time=", "-p", str(pid)], capture_output=True, text=True)
    days, _, clock = told.stdout.strip().rpartition("-")
    seconds = 0.0
    for part in clock.split(":") if clock else []:
        seconds = 60 * seconds + float(part)
    return 86_400 * int(days or 0) + seconds


def command(name: str, *flags: str) -> None:
    """Runs one of experiments/*.py."""
    code = subprocess.call([sys.executable, ROOT / f"experiments/{name}.py", *flags])
    if code:
        raise SystemExit(f"{name}.py ended with status {code}; what it said is above")


def git(*arguments: str) -> str:
    """Returns what git says of the repository, nothing where it fails."""
    told = subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True)
    return told.stdout.strip()


def commit() -> str:
    """Returns the commit of the code, with a + if the package differs from it."""
    named = git("rev-parse", "--short=7", "HEAD") or "unknown"
    return named + "+" * bool(git("diff", "HEAD", "--", "jaxgan"))


def _device() -> str:
    names = []
    with contextlib.suppress(OSError):
        names = re.findall(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} core{'s' * (cores != 1)} of {names[0] if names else platform.machine()}"


def table(folder: pathlib.Path, names: list[str]) -> str:
    """Returns the part of a page that is measured, in Markdown."""
    ledgers = {name: Ledger(folder / f"{name}.json") for name in names}
    missing = [name for name in names if not ledgers[name]["evaluated"]]
    names = [name for name in names if name not in missing]
    lines = {name: _read_last(folder / name / "evaluation.jsonl") for name in names}
    protocol = lines[names[0]]["protocol"]
    conditions = dict.fromkeys(line["protocol"]["conditions"] for line in lines.values())
    metrics = list(dict.fromkeys(m for line in lines.values() for m in line["metrics"]))

    def listed(key):
        values = [ledgers[name][key] for name in names]
        values = sum(values, []) if key == "commits" else values
        return ", ".join(dict.fromkeys(values))

    rows = [
        "| | |",
        "|---|---|",
        f"| commit | {listed('commits')}; evaluated at {listed('evaluated')} |",
        f"| machine | {listed('device')}; Python {platform.python_version()} |",
        f"| protocol | {protocol['num_generated']:,} pictures of the {protocol['weights']} weights "
        f"against {protocol['num_reference']:,} of {protocol['reference']}; features: "
        f"{protocol['features']} {protocol['digest'][:8]}; asked for: {' or '.join(conditions)}; "
        f"seed {protocol['seed']} |",
        "",
        "With 95 % intervals; minutes are those of processor time, the start included.",
        "",
        "| run | steps | minutes | " + " | ".join(metrics) + " |",
        "|---" * (3 + len(metrics)) + "|",
    ]
    for name in names:
        cells = [_cell(lines[name]["metrics"].get(metric)) for metric in metrics]
        minutes = ledgers[name]["seconds"] / 60
        rows.append(f"| {name} | {lines[name]['step']:,} | {minutes:.1f} | {' | '.join(cells)} |")
    rows += [f"| {name} | not yet run |{' |' * (1 + len(metrics))}" for name in missing]
    return "\n".join(rows)


def _read_last(path: pathlib.Path) -> dict:
    return json.loads(path.read_text().splitlines()[-1])


def _cell(measured: list | None) -> str:
    value, low, high = measured or (None, None, None)
    if value is None:
        return ""
    return f"{value:.3g}" + ("" if low is None else f" ({low:.3g} to {high:.3g})")


def write_table(page: pathlib.Path, text: str) -> None:
    """Puts the table between the page's markers; a page without them gets them at its end."""
    before = page.read_text() if page.exists() else f"# `{page.stem}`\n"
    if BEGIN not in before:
        before = f"{before.rstrip()}\n\n{BEGIN}\n{END}\n"
    head, _, rest = before.partition(BEGIN)
    _, found, tail = rest.partition(END)
    if not found:
        raise SystemExit(f"{page} has {BEGIN} without {END}; put that where the table ends")
    page.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}")


def check(folder: pathlib.Path) -> str:
    """Returns a line for each page: its commit, its age, and the code that is newer."""
    lines = []
    for page in sorted(folder.glob("*.md")):
        row = re.search(r"^\| commit \|(.*)$", page.read_text(), re.M)
        commits = re.findall(r"\b[0-9a-f]{7,40}\b", row.group(1)) if row else []
        known = [c for c in commits if git("cat-file", "-t", c) == "commit"]
        if not known:
            lines.append(f"{page.stem:<20} no known commit")
            continue
        # The page is as old as its oldest part.
        oldest = min(known, key=lambda c: int(git("log", "-1", "--format=%ct", c)))
        age = git("log", "-1", "--format=%cs, %cr", oldest)
        code = [path for path in _code(page) if (ROOT / path).exists()]
        newer = git("diff", "--name-only", oldest, "HEAD", "--", *code).splitlines()
        state = f"older than {len(newer)} files: {', '.join(newer[:3])}" if newer else "up to date"
        lines.append(f"{page.stem:<20} {oldest} ({age}): {state}{', ...' * (len(newer) > 3)}")
    return "\n".join(lines)


def _code(page: pathlib.Path) -> list[str]:
    """Returns what a page measures: as it says, or its methods' files and what all share."""
    description = page.with_suffix(".toml")
    text = description.read_text() if description.exists() else ""
    about = tomllib.loads(text)
    if "code" in about:
        return about["code"]
    models = re.findall(r"--model=(\w+)", text)
    if not models:
        there = sorted((ROOT / "jaxgan/models").glob("*.py"), key=lambda path: -len(path.stem))
        models = [path.stem for path in there if page.stem.startswith(path.stem)][:1]
    return [f"jaxgan/{path}" for path in [*SHARED, *(f"models/{m}.py" for m in models)]]


if __name__ == "__main__":
    # A training that goes on by itself would be counted nowhere: it is told to end, too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    main()
