"""Where data are unless the caller says otherwise, and downloading."""

import hashlib
import http.client
import os
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

from jaxgan import bars, files
from jaxgan.errors import DataError

_PATIENCE = 8.0  # seconds for a first answer


class Remote(NamedTuple):
    """A file on the network and the SHA-256 of its content."""

    url: str
    sha256: str
    most: int = 1 << 30  # bytes, where a server goes on and on


def default_data_dir() -> Path:
    """$JAXGAN_DATA, or `jaxgan/data` in the user's cache folder."""
    named = os.environ.get("JAXGAN_DATA")
    return Path(named).expanduser() if named else files.user_cache() / "data"


def default_cache_dir() -> Path:
    """`jaxgan/prepared` in the user's cache folder."""
    return files.user_cache() / "prepared"


def fetch(remote: Remote, path: Path, remedy: str) -> None:
    """Downloads a file, whole or not at all.

    Args:
      remote: what to download.
      path: where to; missing folders are made.
      remedy: what to do by hand if it fails, for the message.

    Raises:
      DataError: within seconds if there is no network, and if the content is not the known one.
    """
    require_reachable(remote.url, remedy)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with files.whole(path, "wb") as file:
            found = _copy(remote, file)
            if found != remote.sha256:
                raise DataError(
                    f"{remote.url} has the SHA-256 {found} and not {remote.sha256}; {remedy}"
                )
    except (OSError, http.client.HTTPException) as reason:
        raise DataError(f"downloading {remote.url} failed ({reason}); {remedy}") from reason


def require_reachable(url: str, remedy: str) -> None:
    """Asks a server for any answer.

    Args:
      url: what to ask for.
      remedy: what to do by hand if it does not answer, for the message.

    Raises:
      DataError: if there is no answer within seconds.
    """
    reasons = []

    def ask() -> None:
        request = urllib.request.Request(url, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=_PATIENCE).close()
        except urllib.error.HTTPError:
            pass  # an answer
        except (OSError, http.client.HTTPException, ValueError) as reason:
            reasons.append(str(reason))

    # On a thread, because nothing limits the time that looking up the host's name takes.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    if thread.is_alive():
        reasons.append(f"no answer in {_PATIENCE:.0f} seconds")
    if reasons:
        raise DataError(f"{url} cannot be reached ({reasons[0]}); {remedy}")


def _copy(remote: Remote, file) -> str:
    checksum, there = hashlib.sha256(), 0
    with urllib.request.urlopen(remote.url, timeout=_PATIENCE) as response:
        told = response.headers.get("Content-Length", "")
        total = int(told) if told.isdecimal() else None
        name = remote.url.rsplit("/", 1)[-1]
        with bars.bar(total, "B", delay=2, desc=name, unit_scale=True) as bar:
            while block := response.read(1 << 20):
                there += len(block)
                if there > remote.most:
                    raise OSError(f"the answer has more than {remote.most:,} bytes")
                checksum.update(block)
                file.write(block)
                bar.update(len(block))
    return checksum.hexdigest()
