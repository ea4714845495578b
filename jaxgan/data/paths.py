"""Where data and prepared pictures lie unless the caller says otherwise."""

import os
from pathlib import Path


def default_data_dir() -> Path:
    """$JAXGAN_DATA, or `jaxgan/data` in the user's cache folder."""
    named = os.environ.get("JAXGAN_DATA")
    return Path(named).expanduser() if named else _user_cache() / "data"


def default_cache_dir() -> Path:
    """`jaxgan/prepared` in the user's cache folder."""
    return _user_cache() / "prepared"


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxgan"
