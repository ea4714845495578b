"""The shell and Python examples of README.md, CONTRIBUTING.md and docs/ are true, and run."""

import ast
import importlib.util
import json
import re
import shlex
import sys
import types
from pathlib import Path

import commands
import numpy as np
import pytest
from absl import flags
from conftest import ROOT
from helpers import small_config
from PIL import Image

import jaxgan
from jaxgan import cli, data
from jaxgan.cli.overrides import override
from jaxgan.models import MODELS
from jaxgan.runs import settings

README = ROOT / "README.md"
GUIDE = (README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
PAGES = (*GUIDE, *sorted((ROOT / "experiments" / "results").glob("*.md")))
SCRIPTS = {command: script for script, command in commands.COMMANDS.items()}
OTHERS = ("make", "pip", "cd")


def _fenced(page, *languages):
    """The blocks of code of a page."""
    for language, code in re.findall(r"^```(.*?)\n(.*?)^```$", page.read_text(), re.M | re.S):
        if language in languages:
            yield code


def _commands(page):
    """The command lines of a page as lists of words."""
    for code in _fenced(page, "sh", ""):
        for line in code.replace("\\\n", " ").splitlines():
            if words := shlex.split(line.replace("SEED", "1"), comments=True):
                yield words


def _ours(words):
    """The command of the library in a line, and its arguments; None if there is none."""
    if words[0] == "srun":
        words = words[words.index("jaxgan") :]
    if words[0] == "jaxgan" and len(words) > 1:
        return words[1], words[2:]
    if words[0].endswith("python") and re.match(r"experiments/\w+\.py$", "".join(words[1:2])):
        script = words[1].removeprefix("experiments/").removesuffix(".py")
        return commands.COMMANDS[script], words[2:]
    return None


def _all_of_ours(*pages):
    """Each command of the library on the pages once."""
    found = {}
    for page in pages:
        for words in _commands(page):
            ours = _ours(words)
            if ours and "--help" not in ours[1]:
                found.setdefault(shlex.join([ours[0], *ours[1]]), ours)
    return found


EVERY = _all_of_ours(*PAGES)


def test_other_programs_are_those_that_there_are():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    extras = re.search(
        r"optional-dependencies\]\n(.*?)\n\n", (ROOT / "pyproject.toml").read_text(), re.S
    )
    for page in GUIDE:
        for words in _commands(page):
            if _ours(words):
                assert _ours(words)[0] in cli.COMMANDS, words
                continue
            assert words[0] in OTHERS or words[0].endswith("python"), (page, words)
            if words[0] == "make":
                assert {word for word in words[1:] if "=" not in word} <= {*targets, ".venv"}, words
            for extra in re.findall(r"\[(.*?)\]", " ".join(words)) if words[0] == "pip" else ():
                assert {*extra.split(",")} <= {*re.findall(r"^(\w+) =", extras[1], re.M)}, words


@pytest.mark.parametrize("line", EVERY)
def test_flags_recipes_and_fields_are_those_that_there_are(line):
    command, arguments = EVERY[line]
    commands.load(SCRIPTS[command], *arguments)
    chosen = flags.FLAGS.flag_values_dict()
    if command == "train":
        override(settings.named(chosen["model"]).Config(), chosen["set"])
        settings.check_augmentation(chosen["augment"])
    if "dataset" in chosen:
        assert chosen["dataset"].split(":")[0] in data.DATASETS


# The same, for real


def _smaller(command, arguments):
    """The command at a size that takes seconds, on data that are there."""
    commands.load(SCRIPTS[command], *arguments)
    chosen = flags.FLAGS.flag_values_dict()
    if command == "train":
        small = small_config(chosen["model"], 8)
        usual = MODELS[chosen["model"]].Config()
        more = [
            f"--set={name}={','.join(map(str, value)) if isinstance(value, tuple) else value}"
            for name, value in vars(small).items()
            if value != getattr(usual, name)
        ]
        more += ["--batch_size=8", "--image_size=8", "--num_samples=4", "--evaluate_images=120"]
        more += ["--gradient_accumulation=1", "--steps=1", "--metrics=prdc"]
        more += ["--epochs=0.07"] * (chosen["epochs"] is not None)
    elif command == "sample":
        given = {"num": 2, "interpolate": 2, "mix": 2, "mix_layers": 1, "project_steps": 2}
        more = [f"--{name}={value}" for name, value in given.items() if chosen[name]]
        more += ["--batch_size=8"]
    elif command == "evaluate":
        # Inception's weights are 91 MiB, and distances need thousands of pictures.
        more = ["--num_images=120", "--batch_size=40", "--features=random", "--metrics=prdc"]
    else:
        more = ["--epochs=1", "--batch_size=8", "--image_size=16", "--out=read.npz"]
    dataset = chosen.get("dataset", "folder")
    if command != "sample" and dataset == "folder":
        more += ["--data_dir=PICTURES"]
    elif command != "sample":
        more += ["--num_examples=120"]
        more += ["--dataset=glyphs"] * (dataset not in ("shapes", "glyphs"))
    return [*arguments, *more]


def _run(command, arguments):
    """Runs a command, and before it those of the guide that make the runs that it needs."""
    commands.load(SCRIPTS[command], *arguments)
    names = ["init_from"] if command == "train" else ["workdir", "against"]
    for name in names:
        needed = getattr(flags.FLAGS, name, None)
        if needed and not Path(needed).exists():
            _run(*_making(needed))
    result = commands.run(SCRIPTS[command], *_smaller(command, arguments))
    assert result.status == 0, (arguments, result.err)
    return result


def _making(workdir):
    """The training of the guide that a run is of."""
    for command, arguments in _all_of_ours(*GUIDE).values():
        if command == "train" and "--dry_run" not in arguments:
            commands.load("train", *arguments)
            if flags.FLAGS.workdir == workdir and flags.FLAGS.init_from is None:
                return command, arguments
    raise AssertionError(f"no command of the guide makes {workdir}")


@pytest.fixture
def at_work(tmp_path, monkeypatch):
    """A folder with what the examples name: pictures, their tags, a face."""
    monkeypatch.chdir(tmp_path)
    lines = []
    for folder in ("cats", "dogs"):
        (tmp_path / "PICTURES" / folder).mkdir(parents=True)
        for number in range(60):
            pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
            name = f"{folder}/{number}.png"
            Image.fromarray(pixels).save(tmp_path / "PICTURES" / name)
            lines.append(f"{name},{folder},{'even' if number % 2 else 'odd'}\n")
    (tmp_path / "tags.csv").write_text("".join(lines))
    Image.fromarray(pixels).save(tmp_path / "face.png")


def _alone(arguments):
    return not any("coordinator" in word or "distributed" in word for word in arguments)


def test_commands_of_the_readme_run(at_work):
    for command, arguments in _all_of_ours(README).values():
        _run(command, arguments)


@pytest.mark.slow
def test_commands_of_the_pages_run(at_work):
    for command, arguments in _all_of_ours(*GUIDE[1:]).values():
        if _alone(arguments) and not any("flagfile=mine" in word for word in arguments):
            _run(command, arguments)


# Python


@pytest.mark.parametrize(
    "page",
    [page for page in GUIDE[1:] if any(_fenced(page, "python")) and page.stem != "api"],
    ids=lambda page: page.stem,
)
def test_python_of_a_page_runs(page, at_work, monkeypatch):
    module = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)
    for code in _fenced(page, "python"):
        exec(compile(code, page, "exec"), vars(module))


def test_a_gan_is_one_file_and_one_line(at_work, monkeypatch):
    (code, *_) = _fenced(ROOT / "docs" / "add_a_gan.md", "python")
    with open("lsgan.py", "w") as file:
        file.write(code)
    spec = importlib.util.spec_from_file_location("lsgan", "lsgan.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "lsgan", module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(MODELS, "lsgan", module)
    new = ["--model=lsgan", "--dataset=shapes", "--workdir=run"]
    _run("train", new)
    result = commands.run("sample", "--workdir=run", "--num=4", "--out=grid.png")
    assert result.status == 0 and Path("grid.png").stat().st_size > 1000


# The notebook


SMALLER = {
    "10_000": "64",
    "3000": "2",
    "log_every=50": "log_every=1",
    "batch_size=64": "batch_size=8",
}


def _tour():
    """The cells of the notebook, with a training that is over at once."""
    text = (ROOT / "docs" / "tour.ipynb").read_text()
    for usual, small in SMALLER.items():
        assert usual in text
        text = text.replace(usual, small)
    return text


def test_the_code_of_the_tour_runs(at_work, monkeypatch):
    module = types.ModuleType("tour")
    monkeypatch.setitem(sys.modules, "tour", module)
    for cell in json.loads(_tour())["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), "tour", "exec"), vars(module))
    assert Path("runs/tour/curves.png").exists()


@pytest.mark.slow
def test_the_tour_is_a_notebook(at_work, monkeypatch):
    monkeypatch.delenv("MPLBACKEND", raising=False)  # curves are shown in the notebook
    nbformat = pytest.importorskip("nbformat", reason="make docs installs it")
    found = importlib.util.spec_from_file_location("run_tour", ROOT / "docs/run_tour.py")
    run_tour = importlib.util.module_from_spec(found)
    found.loader.exec_module(run_tour)
    notebook = nbformat.reads(_tour(), as_version=4)
    run_tour.run(notebook, Path.cwd())
    shown = [cell for cell in notebook.cells if "image/png" in str(cell.get("outputs"))]
    assert len(shown) == 4


def test_every_public_name_is_on_the_page_of_the_api():
    page = (ROOT / "docs" / "api.md").read_text()
    there = re.findall(r"^.. (?:py:|auto)\w+:: (?:jaxgan\.)?(\w+)", page, re.M)
    assert {*there} == {*jaxgan.__all__}


def test_answers_are_in_the_words_of_the_findings():
    said = " ".join(
        node.value
        for name in ("verdicts", "curve_verdicts")
        for node in ast.walk(ast.parse((ROOT / f"jaxgan/evaluation/{name}.py").read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    page = (ROOT / "docs" / "questions.md").read_text()
    quotes = re.findall(r"^(?:> .*\n)+", page, re.M)
    assert len(quotes) > 10
    for quote in quotes:
        for clause in re.split(r"[,.:;] |\.$", " ".join(quote.replace("> ", "").split())):
            assert clause in said, clause
