"""The program `jaxgan`, and flags from files."""

import sys
import tomllib

import pytest
from conftest import ROOT

from jaxgan import cli
from jaxgan.cli.recipes import expanded, recipes
from jaxgan.errors import UsageError


def test_a_file_stands_for_its_lines_and_what_follows_overrides_it(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "first.cfg").write_text("# why\n\n--flagfile=deep/second.cfg\n--steps=2\n")
    (tmp_path / "deep" / "second.cfg").write_text("--model=gan\n  --flagfile=third.cfg\n")
    (tmp_path / "deep" / "third.cfg").write_text("--set=width=8\n")
    file = f"--flagfile={tmp_path / 'first.cfg'}"
    lines = ["--model=gan", "--set=width=8", "--steps=2"]
    assert expanded(["--seed=1", file, "--steps=3"]) == ["--seed=1", *lines, "--steps=3"]
    assert expanded(["--flagfile", str(tmp_path / "first.cfg")]) == lines
    assert expanded(["--", file]) == ["--", file]


def test_a_recipe_has_a_name():
    assert "--model=dcgan" in expanded(["--recipe=anime_dcgan"])
    assert {"demo", "anime_dcgan"} <= recipes().keys()
    with pytest.raises(UsageError, match="did you mean 'anime_dcgan'"):
        expanded(["--recipe=anime_dcgam"])


@pytest.mark.parametrize("argument", ["--flagfile=/nowhere.cfg", "--recipe", "--flagfile="])
def test_files_that_are_not_there(argument):
    with pytest.raises(UsageError, match="flagfile=|recipe=|needs a value"):
        expanded([argument])


def test_a_file_that_names_itself_is_refused(tmp_path):
    (tmp_path / "a.cfg").write_text("--flagfile=b.cfg\n")
    (tmp_path / "b.cfg").write_text("--flagfile=a.cfg\n")
    with pytest.raises(UsageError, match="names itself"):
        expanded([f"--flagfile={tmp_path / 'a.cfg'}"])


def test_the_program_names_its_commands(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["jaxgan"])
    cli.main()
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in cli.COMMANDS)
    monkeypatch.setattr(sys, "argv", ["jaxgan", "trian"])
    with pytest.raises(SystemExit, match="did you mean 'train'"):
        cli.main()


def test_the_wheel_has_every_package():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {path.parent for path in (ROOT / "jaxgan").rglob("*.py")}
    packages = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert {*listed} == packages | {"jaxgan.recipes"}
