"""The script that makes pages of results, with a page that takes seconds."""

import importlib.util
import json
import subprocess

import pytest
from conftest import ROOT
from PIL import Image

FOLDER = ROOT / "experiments" / "results"
TINY = """
train = [
  "--model=gan", "--dataset=shapes", "--image_size=8", "--num_examples=1000", "--batch_size=8",
  "--steps={steps}", "--log_every=1", "--sample_every=1000", "--num_samples=4", "--logger=",
  "--checkpoint_every=1000000",
]
sample = ["--num=4"]
evaluate = ["--num_images=1000", "--features=random", "--metrics=kid"]
code = ["LICENSE"]

[runs.first]
"""


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_results", FOLDER / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Returns what writes the page's description."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def describe(steps):
        path = tmp_path / "tiny.toml"
        path.write_text(TINY.format(steps=steps))
        return str(path)

    return describe


@pytest.mark.slow
def test_a_tiny_page(script, page, tmp_path):
    script.main([page(steps=2), f"--runs={tmp_path / 'runs'}"])
    written = (tmp_path / "tiny.md").read_text()
    assert "| first | 2 |" in written and "kid" in written and "1,000 of" in written
    assert (tmp_path / "tiny_first.png").exists()


MADE_UP = {
    "train": "",
    "sample": """
import numpy
with flags["out"].open("wb") as file:
    if flags["out"].suffix == ".npz":
        numpy.savez(file, images=numpy.zeros((4, 8, 8, 3), numpy.uint8))
""",
    "evaluate": """
names = ("features", "digest", "reference", "conditions", "weights")
protocol = dict.fromkeys(names, "x") | {"num_generated": 1000, "num_reference": 1000, "seed": 0}
line = {"step": 2, "metrics": {"kid": [1.0, 0.5, 1.5], "is": [2.0, None, None]}}
flags["workdir"].mkdir(exist_ok=True)
(flags["workdir"] / "evaluation.jsonl").write_text(json.dumps(line | {"protocol": protocol}))
""",
}
READ = """
import json, pathlib, sys
flags = {key: pathlib.Path(value) for key, _, value in (x[2:].partition("=") for x in sys.argv[1:])}
"""


@pytest.fixture
def made_up(script, tmp_path, monkeypatch):
    """Scripts that write at once what a page asks of them, and note that they were called."""
    monkeypatch.setattr(script, "ROOT", tmp_path)
    monkeypatch.setattr(script, "POLL", 0.01)
    (tmp_path / "experiments").mkdir()
    for name, code in MADE_UP.items():
        text = READ + f"pathlib.Path({str(tmp_path / 'called')!r}).open('a').write('{name} ')\n"
        (tmp_path / "experiments" / f"{name}.py").write_text(text + code)
    return lambda: (tmp_path / "called").read_text().split()


def test_a_page_is_made_once_and_keeps_what_was_written_by_hand(script, page, made_up, tmp_path):
    asked = [page(steps=2), f"--runs={tmp_path / 'runs'}"]
    script.main(asked)
    written = (tmp_path / "tiny.md").read_text()
    assert "| first | 2 | 0.0 | 1 (0.5 to 1.5) | 2 |" in written
    by_hand = "# Tiny\n\nBefore.\n" + written[written.index(script.BEGIN) :] + "\nAfter.\n"
    (tmp_path / "tiny.md").write_text(by_hand)
    script.main(asked)
    assert (tmp_path / "tiny.md").read_text() == by_hand
    assert made_up() == ["train", "sample", "evaluate"], "a run was made again"


def test_what_was_measured_outlives_the_runs_and_is_joined_by_others(
    script, page, made_up, tmp_path
):
    path = page(steps=2)
    script.main([path, f"--runs={tmp_path / 'runs'}"])
    with open(path, "a") as file:
        file.write("[runs.second]\ntrain = ['--seed=1']\n")
    another_day = [path, f"--runs={tmp_path / 'other'}"]
    script.main(another_day)
    assert made_up() == 2 * ["train", "sample", "evaluate"]
    written = (tmp_path / "tiny.md").read_text()
    assert "| first | 2 |" in written and "| second | 2 |" in written
    page(steps=3)  # another description, without the second run
    with pytest.raises(SystemExit, match="was trained as the page described it before; remove it"):
        script.main([path, f"--runs={tmp_path / 'runs'}"])
    script.main(another_day)
    kept = json.loads((tmp_path / "tiny.json").read_text())
    assert [point["run"] for point in kept] == ["second", "first"]
    assert "--steps=3" in kept[1]["flags"]


def test_all_runs_come_to_one_time_before_any_goes_on(script, page, made_up, tmp_path):
    path = tmp_path / "tiny.toml"
    page(steps=2)
    runs = "minutes = [2, 1]\ntogether = 'kid'\n" + path.read_text() + "[runs.second]\n"
    path.write_text(runs + "[runs.third]\nminutes = 0.5\n")
    script.main([str(path), f"--runs={tmp_path / 'runs'}"])
    made = script.Page(path)
    order = [(0.5, "third"), (1, "first"), (1, "second"), (2, "first"), (2, "second")]
    assert made.schedule() == order and all(made.has(name, stop) for stop, name in order)
    with Image.open(tmp_path / "tiny.jpg") as rows:
        assert rows.height == 3 * (8 + 2) and rows.width > 4 * 8
    assert (tmp_path / "tiny_curves.png").exists()


def test_runs_measured_unlike_are_told_apart(script):
    line = dict.fromkeys(("num_generated", "num_reference", "seed"), 0)
    line |= dict.fromkeys(("weights", "reference", "features", "conditions"), "x")
    points = {name: {"protocol": line | {"digest": d}} for name, d in (("a", "1"), ("b", "1"))}
    assert "a" not in script._protocols(points).split()
    points["c"] = {"protocol": line | {"digest": "2"}}
    assert script._protocols(points).startswith("a, b: 0 pictures")
    assert "; c: 0 pictures" in script._protocols(points)


BURNS = """
import pathlib, signal, sys, time

def stop(*unused):
    sys.exit(143)

signal.signal(signal.SIGTERM, stop)
with pathlib.Path(sys.argv[1]).open("a") as file:
    file.write("begun\\n")
while True:
    pass
"""


def test_a_training_stops_when_its_minutes_are_spent_over_all_resumptions(
    script, tmp_path, monkeypatch
):
    monkeypatch.setattr(script, "POLL", 0.05)
    monkeypatch.setattr(script, "ROOT", tmp_path)
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "train.py").write_text(BURNS)
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"seconds": 59.0}))
    script.train(script.Ledger(path), [str(tmp_path / "begun")], minutes=1)
    ledger = json.loads(path.read_text())
    assert 60 <= ledger["seconds"] < 70 and not ledger["ended"]
    script.train(script.Ledger(path), [str(tmp_path / "begun")], minutes=1)
    assert json.loads(path.read_text()) == ledger
    assert (tmp_path / "begun").read_text() == "begun\n"


def test_a_training_that_fails_is_said(script, page, tmp_path):
    asked = [page(steps="many"), f"--runs={tmp_path / 'runs'}"]
    with pytest.raises(SystemExit, match="train.py ended with status"):
        script.main(asked)
    assert not json.loads((tmp_path / "runs/tiny/first.json").read_text())["ended"]


def test_an_unknown_page_is_named(script, capsys):
    with pytest.raises(SystemExit):
        script.main(["nothing"])
    assert "known pages: " in capsys.readouterr().err


def test_a_table_is_put_between_markers_alone(script, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"a\n{script.BEGIN}\nold\n{script.END}\nb\n")
    script.write_table(page, "new")
    assert page.read_text() == f"a\n{script.BEGIN}\nnew\n{script.END}\nb\n"
    page.write_text(f"a\n{script.BEGIN}\nold\n")
    with pytest.raises(SystemExit, match="put that where the table ends"):
        script.write_table(page, "new")


def test_check_names_what_is_newer(script, tmp_path):
    def git(*arguments):
        subprocess.run(["git", "-C", tmp_path, *arguments], check=True, capture_output=True)

    def commit():
        who = ["-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
        git("add", "-A")
        git(*who, "commit", "-m", "m")

    git("init")
    code = tmp_path / "jaxgan" / "models" / "gan.py"
    code.parent.mkdir(parents=True)
    code.write_text("1")
    commit()
    script_root, script.ROOT = script.ROOT, tmp_path
    try:
        pages = tmp_path / "results"
        pages.mkdir()
        (pages / "gan_mnist.md").write_text(f"| commit | {script.commit()} |\n")
        (pages / "lost.md").write_text("no table\n")
        told = script.check(pages)
        assert "up to date" in told and "no known commit" in told
        code.write_text("2")
        commit()
        assert "older than 1 files: jaxgan/models/gan.py" in script.check(pages)
        assert not script.commit().endswith("+")
        code.write_text("3")
        assert script.commit().endswith("+")
    finally:
        script.ROOT = script_root


def test_every_description_names_a_page():
    assert all(path.with_suffix(".md").exists() for path in FOLDER.glob("*.toml"))
