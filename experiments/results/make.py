"""Makes a page of results again: trains, samples, evaluates, and writes the page's table.

python experiments/results/make.py sagan_mnist --data_dir=DIR
python experiments/results/make.py --check

What a page needs is in PAGE.toml beside it:

    minutes = [5, 10, 15]             # of processor time for each run; none: all steps
    classifier = ["--dataset=mnist"]  # flags of train_classifier.py; none: the data set's own
    train = ["--dataset=mnist"]       # flags of train.py for all runs
    sample = ["--num=10"]             # of sample.py, for runs without their own; may be left out
    evaluate = ["--num_images=10000"] # of evaluate.py, likewise but for all runs
    code = ["jaxgan/models/sagan.py"] # what makes the page old when it changes; none: by the method
    together = "random_frechet"       # one picture of all runs, and this metric's curves over time

    [runs.one_rate]
    train = ["--set=learning_rate=4e-4"]
    minutes = 20

With several minutes a run is measured at each, and all runs come to one before any goes on to the
next. What was measured is kept in PAGE.json, so that another day's runs join it: a run is made
again only if its description has changed. The same command again goes on where it was. The table
stands between two markers in PAGE.md, and what is outside them is written by hand. --check lists
each page with its commit and its age, and the code that has changed since.
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
from collections.abc import Iterable

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
    """Does what is missing of a page's runs, the shortest trainings first, and writes the page."""
    page = Page(description)
    folder = folder.resolve() / description.stem
    folder.mkdir(parents=True, exist_ok=True)
    data = [f"--data_dir={pathlib.Path(data_dir).resolve()}"] if data_dir else []
    for minutes, name in page.schedule():
        if page.has(name, minutes):
            continue
        workdir = f"--workdir={folder / name}"
        ledger = Ledger(folder / f"{name}.json")
        as_described = page.flags(name, "train")
        if ledger.setdefault("flags", as_described) != as_described:
            raise SystemExit(
                f"{folder / name} was trained as the page described it before; remove it and "
                f"{ledger.path} to train it again"
            )
        train(ledger, [*as_described, *data, workdir], minutes)
        features = []
        if "classifier" in page.about:
            weights = folder / "classifier.npz"
            if not weights.exists():
                command("train_classifier", *page.about["classifier"], *data, f"--out={weights}")
            features = [f"--features={weights}"]
        drawn = folder / f"{name}.npz" if "together" in page.about else page.beside(f"_{name}.png")
        command("sample", workdir, *page.flags(name, "sample"), f"--out={drawn}")
        command("evaluate", workdir, *page.flags(name, "evaluate"), *features, *data)
        page.add(name, minutes, ledger, _read_last(folder / name / "evaluation.jsonl"))
        if "together" in page.about:
            draw_together(page, name, drawn)
        page.save()  # last: what it holds is not done again
        write_table(description.with_suffix(".md"), table(page))
    write_table(description.with_suffix(".md"), table(page))


class Page:
    """A description, and what was measured of its runs: a list in PAGE.json, one to a line."""

    def __init__(self, description: pathlib.Path) -> None:
        self.path = description.with_suffix(".json")
        self.about = tomllib.loads(description.read_text())
        self.measured = json.loads(self.path.read_text()) if self.path.exists() else []

    def schedule(self) -> list[tuple[float | None, str]]:
        """Returns minutes, none for all steps, and the name of a run, in the order of work."""
        stops = []
        for name, run in self.about["runs"].items():
            minutes = run.get("minutes", self.about.get("minutes"))
            stops += [(m, name) for m in (minutes if isinstance(minutes, list) else [minutes])]
        return sorted(stops, key=lambda stop: float("inf") if stop[0] is None else stop[0])

    def flags(self, name: str, script: str) -> list[str]:
        """Returns what the description has for a run of train.py, sample.py or evaluate.py."""
        own = self.about["runs"][name].get(script, [])
        if script == "sample":
            return own or self.about.get(script, [])
        return [*self.about.get(script, []), *own]

    def points(self, name: str) -> list[dict]:
        """Returns what was measured of a run as it is described, the shortest training first."""
        flags = self._decisive(name)
        points = [m for m in self.measured if m["run"] == name and m["flags"] == flags]
        return sorted(points, key=lambda point: point["step"])

    def has(self, name: str, asked: float | None) -> bool:
        return any(point["asked"] == asked for point in self.points(name))

    def add(self, name: str, asked: float | None, ledger: Ledger, line: dict) -> None:
        """Adds a line of evaluation.jsonl, and drops what was measured of another description."""
        others = [m for m in self.measured if m["run"] != name]
        point = {
            "run": name,
            "asked": asked,
            "minutes": round(ledger["seconds"] / 60, 2),
            "trained": ledger["commits"],
            "evaluated": commit(),
            "device": ledger["device"],
            "python": platform.python_version(),
            "flags": self._decisive(name),
        }
        self.measured = [*others, *self.points(name), point | line]

    def save(self) -> None:
        text = ",\n".join(json.dumps(m) for m in self.measured)
        _write(self.path, f"[\n{text}\n]\n")

    def _decisive(self, name: str) -> list[str]:
        return self.flags(name, "train") + self.flags(name, "evaluate")

    def beside(self, ending: str) -> pathlib.Path:
        """Returns the path of a file of this page, such as `_curves.png`."""
        return self.path.with_name(self.path.stem + ending)


class Ledger(dict):
    """What a run has cost so far and what made it, in a file."""

    def __init__(self, path: pathlib.Path) -> None:
        super().__init__(seconds=0.0, ended=False, commits=[], device=_device())
        self.path = path
        if path.exists():
            self.update(json.loads(path.read_text()))

    def write(self, **changes) -> None:
        self.update(changes)
        _write(self.path, json.dumps(self))


def _write(path: pathlib.Path, text: str) -> None:
    whole = path.with_suffix(".tmp")
    whole.write_text(text)
    os.replace(whole, path)


def train(ledger: Ledger, flags: list[str], minutes: float | None) -> None:
    """Trains to the end, or until the processor time of all resumptions is spent.

    The time counts start, compilation and whatever of the pictures is not prepared yet; the last
    save goes beyond it.
    """
    left = float("inf") if minutes is None else 60 * minutes - ledger["seconds"]
    if ledger["ended"] or left <= 0:
        return
    before, made_by = ledger["seconds"], [*ledger["commits"], commit()]
    ledger.write(commits=list(dict.fromkeys(made_by)))
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


def table(page: Page) -> str:
    """Returns the part of a page that is measured, in Markdown."""
    last = {name: page.points(name)[-1] for name in page.about["runs"] if page.points(name)}
    if not last:
        return "Not yet run."
    metrics = list(dict.fromkeys(m for point in last.values() for m in point["metrics"]))
    trained = _listed(commit for point in last.values() for commit in point["trained"])
    rows = [
        "| | |",
        "|---|---|",
        f"| commit | {trained}; evaluated at {_listed(p['evaluated'] for p in last.values())} |",
        f"| machine | {_alike({name: _machine(point) for name, point in last.items()})} |",
        f"| protocol | {_protocols(last)} |",
        "",
        "With 95 % intervals; minutes are those of processor time, the start included.",
        "",
        "| run | steps | minutes | " + " | ".join(metrics) + " |",
        "|---" * (3 + len(metrics)) + "|",
    ]
    for name in page.about["runs"]:
        if name not in last:
            rows.append(f"| {name} | not yet run |{' |' * (1 + len(metrics))}")
            continue
        point = last[name]
        cells = [_cell(point["metrics"].get(metric)) for metric in metrics]
        cells = [f"{point['step']:,}", f"{point['minutes']:.1f}", *cells]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _listed(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))


def _alike(told: dict[str, str]) -> str:
    """Returns what is told of all runs, and of which of them if not of all alike."""
    runs: dict[str, list[str]] = {}
    for name, text in told.items():
        runs.setdefault(text, []).append(name)
    if len(runs) < 2:
        return "".join(runs)
    return "; ".join(f"{', '.join(names)}: {text}" for text, names in runs.items())


def _machine(point: dict) -> str:
    return f"{point['device']}, Python {point['python']}"


def _protocols(points: dict[str, dict]) -> str:
    """Returns how the runs were measured."""
    conditions = " or ".join(dict.fromkeys(p["protocol"]["conditions"] for p in points.values()))

    def told(protocol: dict) -> str:
        return (
            f"{protocol['num_generated']:,} pictures of the {protocol['weights']} weights against "
            f"{protocol['num_reference']:,} of {protocol['reference']}; features: "
            f"{protocol['features']} {protocol['digest'][:8]}; asked for: {conditions}; "
            f"seed {protocol['seed']}"
        )

    return _alike({name: told(point["protocol"]) for name, point in points.items()})


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


def draw_together(page: Page, name: str, drawn: pathlib.Path) -> None:
    """Draws a run's samples into a row of the picture of all runs, and the curves over minutes."""
    import numpy as np
    from matplotlib.figure import Figure
    from PIL import Image

    from jaxgan.sampling import pictures

    with np.load(drawn) as arrays:
        images = arrays["images"]
    row = pictures.grid(images, columns=len(images))
    pictures.save_image(page.beside(f"_{name}.jpg"), np.pad(row, ((0, 2), (0, 0), (0, 0))))
    points = {run: page.points(run) for run in page.about["runs"] if page.points(run)}
    rows = [np.asarray(Image.open(page.beside(f"_{run}.jpg"))) for run in points]
    captions = [f"{run}, {points[run][-1]['minutes']:.0f} min" for run in points]
    pictures.save_image(page.beside(".jpg"), pictures.captioned(np.concatenate(rows), captions))

    metric = page.about["together"]
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="minutes of processor time", ylabel=metric, yscale="log")
    for run, measured in points.items():
        known = [p for p in measured if p["metrics"].get(metric, [None])[0] is not None]
        values = [p["metrics"][metric][0] for p in known]
        axes.plot([p["minutes"] for p in known], values, marker=".", label=run)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(page.beside("_curves.png"), dpi=80)


def check(folder: pathlib.Path) -> str:
    """Returns a line for each page: its commit, its age, and the code that is newer."""
    lines = []
    for page in sorted(folder.glob("*.md")):
        commits = _commits(page)
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


def _commits(page: pathlib.Path) -> list[str]:
    """Returns the commits that a page's figures are of: as measured, or as its table says."""
    told = page.read_text()
    row = re.search(r"^\| commit \|(.*)$", told, re.M)
    text = row.group(1) if row else ""
    if page.with_suffix(".toml").exists():
        described = Page(page.with_suffix(".toml"))
        last = [described.points(name)[-1:] for name in described.about["runs"]]
        text = " ".join(c for (p,) in filter(None, last) for c in [*p["trained"], p["evaluated"]])
    return re.findall(r"\b[0-9a-f]{7,40}\b", text)


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
