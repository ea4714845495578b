"""Which pictures are held out, and by what name."""

import zlib
from collections.abc import Sequence


def held_out(name: str, fraction: float) -> bool:
    """Whether the picture `name` is held out: a hash of its name falls below `fraction`.

    So the part of a picture stays what it is when others are added or taken away.
    """
    return zlib.crc32(name.encode("utf-8", "surrogateescape")) < fraction * 2**32


def inside_names(names: Sequence[str]) -> list[str]:
    """Without the one folder at the top that an archive may have been packed with."""
    top = {name.split("/", 1)[0] for name in names}
    if len(top) == 1 and all("/" in name for name in names):
        return [name.split("/", 1)[1] for name in names]
    return list(names)
