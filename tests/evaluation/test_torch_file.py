"""Files of torch.save, read without it."""

import base64
import pickle
import zipfile
import zlib

import numpy as np
import pytest
from conftest import STORED
from stored.evaluation import MAKERS

from jaxgan.errors import UsageError
from jaxgan.evaluation.networks.torch_file import read_state

# What torch.save(..., _use_new_zipfile_serialization=False) makes of the model "a", which is
# arange(6.).reshape(2, 3).t(), and "n", tensor(7), beside "epoch", 3, and "kind", torch.float32.
OLD = (
    "eNptULlOAzEQ3SsJmPuGjnLTRCQQka2gQDTmDI0btAq7hjWYdWbXiwRSpFQR8A0UlPwan4BEwTgBRIHlGcvj5/feTN"
    "95JvLzZf9j/frtZK3Wdw7fXcw9sHw2a1lWN1NaRUqGdzzLhUrBRgCbwhcptJY85GksOik4j4xgUd93eZiLB56D2wPP"
    "ZyUs5onKNJSow1y8iVRDmXrMMxwqvYIK9YriR9Pgb1XMJdgRykoeaVTNyXEW84zHeyLSBJxqG1yf2YjtgBdplUVJLS"
    "y0kDkJM35RCBmHmqe5ysK7BoGS77OKMYLIzhWH8ugL2Zeqo89GRQIVNo2YYKveDDY2W80gaGy1YGzoOeoWME7LRxrI"
    "KbWoS50BTFCbugOYfEqMnSkN022YGXpKYTZByeRH5gC7/FWZ+1VpBc1Gc6Pe2m7AfDJObWRfQPZqdcS4qGGpDcvFcC"
    "S8q6IEVqg7HNuNSGNY/Wa/NE1sYpdrZojnZoj/KNj/NefwmvFrVuX7LFt/V38H0y5ujD7G6+4XZeiPbw=="
)


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "old.pth"
    path.write_bytes(zlib.decompress(base64.b64decode(OLD)))
    return path


def test_the_older_format_is_read(old):
    state = read_state(old)
    assert list(state) == ["a", "n"]
    np.testing.assert_array_equal(state["a"], np.arange(6, dtype=np.float32).reshape(2, 3).T)
    assert state["n"] == 7 and state["n"].dtype == np.int64


@pytest.mark.parametrize("kind", ["older", "newer"])
@pytest.mark.parametrize("entry", ["", "model", "state_dict"])
@pytest.mark.parametrize("version", ["stored", "installed"])
def test_what_torch_saves(tmp_path, kind, entry, version):
    if version == "installed":
        pytest.importorskip("torch")
        saved = MAKERS["torch_file"]()
    else:
        with np.load(STORED / "torch_file.npz") as file:
            saved = dict(file)
    (tmp_path / "x.pth").write_bytes(saved[f"{kind}.{entry}"])
    wanted = {n.removeprefix("array."): x for n, x in saved.items() if n.startswith("array.")}
    read = read_state(tmp_path / "x.pth")
    assert read.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(read[name], array, strict=True)


@pytest.mark.parametrize("keep", [0, 10, 200, -1])
def test_a_truncated_file_is_damaged(old, keep):
    old.write_bytes(old.read_bytes()[:keep])
    with pytest.raises(UsageError, match="is damaged, or was not written by torch.save"):
        read_state(old)


def test_a_tensor_reaches_no_memory_beside_its_storage(old):
    content = old.read_bytes()
    assert content.count(b"K\x03K\x02\x86") == 1  # the size (3, 2)
    old.write_bytes(content.replace(b"K\x03K\x02\x86", b"K\x03K\xff\x86"))
    with pytest.raises(UsageError, match="is damaged"):
        read_state(old)


def test_nothing_that_a_file_names_is_called(tmp_path):
    class Harm:
        def __reduce__(self):
            return open, (str(tmp_path / "harmed"), "w")

    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps({"model": {"a": Harm()}}, protocol=2))
    with pytest.raises(UsageError, match="holds no state_dict"):
        read_state(tmp_path / "x.pth")
    assert not (tmp_path / "harmed").exists()


def test_other_files_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"none.pth cannot be read: No such file"):
        read_state(tmp_path / "none.pth")
    np.savez(tmp_path / "x.npz", a=np.zeros(2))
    with pytest.raises(UsageError, match="x.npz is damaged, or was not written by torch.save"):
        read_state(tmp_path / "x.npz")
