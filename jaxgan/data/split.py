"""Which pictures are held out."""

import zlib


def held_out(name: str, fraction: float) -> bool:
    """Whether the picture `name` is held out: a hash of its name falls below `fraction`.

    So the part of a picture stays what it is when others are added or taken away.
    """
    return zlib.crc32(name.encode("utf-8", "surrogateescape")) < fraction * 2**32
