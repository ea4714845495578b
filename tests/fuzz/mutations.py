"""Damage: bytes that are not what they were, each case from its number alone.

`JAXGAN_FUZZ=full` tries all cases of a test and `JAXGAN_FUZZ=2000:4000` those of these numbers;
without it a few are tried.
"""

import contextlib
import io
import os
import resource
import zipfile
from collections.abc import Iterator, Sequence

import numpy as np

GIB = 1 << 30


def cases(few: int, full: int) -> range:
    """The numbers of the cases that are tried now."""
    asked = os.environ.get("JAXGAN_FUZZ", "")
    if ":" in asked:
        return range(full)[slice(*map(int, asked.split(":")))]
    return range(full if asked == "full" else few)


def mutated(rng: np.random.Generator, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Some bytes changed, cut off, left out, doubled, or of another file."""
    bad = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at, length = int(rng.integers(len(bad) + 1)), int(rng.integers(1, 40))
        # Where a file says what it is, there is more to go wrong.
        at = min(at, int(rng.integers(1, 200))) if rng.random() < 0.5 else at
        kind = rng.integers(8)
        if kind < 3:
            for where in rng.integers(0, max(1, len(bad)), rng.integers(1, 4)):
                bad[where : where + 1] = bytes([rng.integers(256)])
        elif kind == 3:
            bad[at : at + 4] = rng.choice(
                [b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\1"]
            )
        elif kind == 4:
            bad[at : at + 1] = bytes([(bad[at] if at < len(bad) else 0) ^ (1 << rng.integers(8))])
        elif kind == 5:
            del bad[at : at + length]
        elif kind == 6:
            bad[at:at] = bad[at : at + length]
        elif others:
            other = others[rng.integers(len(others))]
            bad[at:] = other[at:]
        else:
            del bad[at:]
    return bytes(bad)


def repacked(rng: np.random.Generator, data: bytes) -> bytes:
    """A zip in which one member is damaged, and which is whole itself."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w") as new:
        chosen = rng.choice(old.namelist())
        for name in old.namelist():
            new.writestr(name, mutated(rng, old.read(name)) if name == chosen else old.read(name))
    return file.getvalue()


@contextlib.contextmanager
def less_memory_than(limit: int) -> Iterator[None]:
    """Checks that the process does not grow by so many bytes."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert grown < limit, f"{grown / 1e6:.0f} MB"
