"""The stored numbers of PyTorch are those that it gives here, where it is installed."""

import pytest
from helpers import assert_as_stored
from stored.make import MAKERS


# The bytes of torch_file are of one version of PyTorch: tests/evaluation/test_torch_file.py.
@pytest.mark.parametrize("name", sorted(MAKERS.keys() - {"torch_file"}))
def test_stored_numbers_are_pytorchs(name):
    pytest.importorskip("torch")
    assert_as_stored(MAKERS[name](), name)
