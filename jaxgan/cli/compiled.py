"""The cache of compiled programs: used where it can be, mended where it is damaged, once said."""

from __future__ import annotations

import os
import pathlib
import re
import tempfile
import warnings

import jax
from absl import logging

_READING = re.compile(r"Error (reading|writing) persistent compilation cache entry for '([^']+)'")


def keep_compiled(folder: str) -> None:
    """Keeps compiled programs in a folder; where that cannot be, a line says so.

    JAX never replaces an entry that it cannot read: it warns and compiles at every start. Here such
    entries are removed, so that this start writes them anew.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        logging.warning(
            "compiled programs cannot be kept in %s (%s): every start compiles; name another "
            "folder by --compilation_cache",
            *(folder, error.strerror),
        )
        return
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    said: list[str] = []
    show = warnings.showwarning

    def shown(message, *args, **kwargs):
        found = _READING.match(str(message))
        if found is None:
            return show(message, *args, **kwargs)
        if found[1] == "reading":
            for entry in pathlib.Path(folder).glob(f"{found[2]}-*-cache"):
                entry.unlink(missing_ok=True)
        if not said:
            mended = "is damaged and written anew" if found[1] == "reading" else "cannot be written"
            logging.warning("the cache of compiled programs in %s %s", folder, mended)
        said.append(message)

    warnings.showwarning = shown
