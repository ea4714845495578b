"""The commands, in absl flags: a module each, with a docstring, `define_flags` and `main`."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from absl import app, flags

from jaxgan.cli import interrupt
from jaxgan.cli.recipes import expanded
from jaxgan.errors import UsageError, unknown

COMMANDS = ("train", "sample", "evaluate", "classify", "status")


def main() -> None:
    """The program `jaxgan`: runs the command that its first argument names."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "-help", "--help", "help"):
        print(_overview())
        return
    if name not in COMMANDS:
        sys.exit(f"error: {unknown('command', name, COMMANDS)}")
    sys.argv[:2] = [f"jaxgan {name}"]
    run(name)


def run(name: str) -> None:
    """Runs a command as the program that was started: its flags, its help, its exit status."""
    with interrupt.in_one_line():
        command = _module(name)
        command.define_flags()
        sys.modules["__main__"].__doc__ = command.__doc__
        # What --help lists are the key flags of the program.
        for flag in flags.FLAGS.get_key_flags_for_module(command.__name__):
            flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
        try:
            arguments = expanded(sys.argv[1:])
        except UsageError as error:
            sys.exit(f"error: {error}")
        app.run(command.main, [sys.argv[0], *arguments])


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"jaxgan.cli.{name}")


def _overview() -> str:
    lines = [f"  {name:10}{_module(name).__doc__.splitlines()[0]}" for name in COMMANDS]
    usage = "jaxgan COMMAND --flag=value ...; jaxgan COMMAND --help lists the flags."
    return "\n".join([usage, "", *lines])
