"""Every public signature says its types; mypy checks that they are true."""

import ast
import pathlib

import pytest

import jaxgan

PACKAGE = pathlib.Path(jaxgan.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))


def _public(body, prefix=""):
    """Functions, and methods of classes, whose names begin with no underscore."""
    for node in body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _public(node.body, f"{node.name}.")


def _unsaid(function):
    """The parameters without a type, and "return"."""
    of = function.args
    named = [*of.posonlyargs, *of.args, *of.kwonlyargs, of.vararg, of.kwarg]
    names = [a.arg for a in named if a is not None and a.annotation is None]
    names = [name for name in names if name not in ("self", "cls")]
    return names + ["return"] * (function.returns is None)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_public_signatures_have_types(path):
    found = dict(_public(ast.parse(path.read_text()).body))
    assert not {name: _unsaid(node) for name, node in found.items() if _unsaid(node)}


def test_the_test_can_tell():
    (found,) = _public(ast.parse("class A:\n def f(self, a: int, b, *c): ...").body)
    assert _unsaid(found[1]) == ["b", "c", "return"]
    assert (PACKAGE / "py.typed").exists()
