"""The script that makes pages of results, with a page that takes seconds."""

import importlib.util
import json
import subprocess

import pytest
from conftest import ROOT

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
    "sample": "flags['out'].write_text('')",
    "evaluate": """
names = ("features", "digest", "reference", "conditions", "weights")
protocol = dict.fromkeys(names, "x") | {"num_generated": 1000, "num_reference": 1000, "seed": 0}
line = {"step": 2, "metrics": {"kid": [1.0, 0.5, 1.5], "is": [2.0, None, None]}}
flags["workdir"].mkdir()
(flags["workdir"] / "evaluation.jsonl").write_text(json.dumps(line | {"protocol": protocol}))
""",
}
READ = """
import json, pathlib, sys
flags = {key: pathlib.Path(value) for key, _, value in (x[2:].partition("=") for x in sys.argv[1:])}
"""


def test_a_page_is_made_once_and_keeps_what_was_written_by_hand(
    script, page, tmp_path, monkeypatch
):
    monkeypatch.setattr(script, "ROOT", tmp_path)
    (tmp_path / "experiments").mkdir()
    for name, code in MADE_UP.items():
        (tmp_path / "experiments" / f"{name}.py").write_text(READ + code)
    asked = [page(steps=2), f"--runs={tmp_path / 'runs'}"]
    script.main(asked)
    written = (tmp_path / "tiny.md").read_text()
    assert "| first | 2 | 0.0 | 1 (0.5 to 1.5) | 2 |" in written
    by_hand = "# Tiny\n\nBefore.\n" + written[written.index(script.BEGIN) :] + "\nAfter.\n"
    (tmp_path / "tiny.md").write_text(by_hand)
    (tmp_path / "tiny_first.png").unlink()
    script.main(asked)
    assert (tmp_path / "tiny.md").read_text() == by_hand
    assert not (tmp_path / "tiny_first.png").exists(), "it was sampled again"


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
