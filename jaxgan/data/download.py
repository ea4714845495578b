"""Fetching the few files that the library knows where to find."""

import hashlib
import os
import tempfile
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from jaxgan.data.errors import DataError

_PATIENCE = 8.0  # seconds for a first answer


class Remote(NamedTuple):
    """A file on the network and the SHA-256 of its content."""

    url: str
    sha256: str


def fetch(remote: Remote, path: Path, remedy: str) -> None:
    """Downloads `remote` to `path`, whole or not at all.

    Raises `DataError` within seconds if there is no network, and if the content is not the known
    one; `remedy` says in the message what to do by hand.
    """
    require_reachable(remote.url, remedy)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            found = _copy(remote.url, file)
        if found != remote.sha256:
            raise DataError(
                f"{remote.url} has the SHA-256 {found} and not {remote.sha256}; {remedy}"
            )
        os.replace(temporary, path)
    except OSError as reason:
        raise DataError(f"downloading {remote.url} failed ({reason}); {remedy}") from reason
    finally:
        Path(temporary).unlink(missing_ok=True)


def require_reachable(url: str, remedy: str) -> None:
    """Raises `DataError` unless `url` answers within seconds, whatever it answers."""
    reasons = []

    def ask() -> None:
        request = urllib.request.Request(url, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=_PATIENCE).close()
        except urllib.error.HTTPError:
            pass  # an answer
        except OSError as reason:
            reasons.append(str(reason))

    # On a thread, because nothing limits the time that looking up the host's name takes.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    if thread.is_alive():
        reasons.append(f"no answer in {_PATIENCE:.0f} seconds")
    if reasons:
        raise DataError(f"{url} cannot be reached ({reasons[0]}); {remedy}")


def _copy(url: str, file) -> str:
    checksum = hashlib.sha256()
    with urllib.request.urlopen(url, timeout=_PATIENCE) as response:
        total = int(response.headers.get("Content-Length", 0)) or None
        name = url.rsplit("/", 1)[-1]
        with tqdm(total=total, desc=name, unit="B", unit_scale=True, disable=None) as bar:
            while block := response.read(1 << 20):
                checksum.update(block)
                file.write(block)
                bar.update(len(block))
    return checksum.hexdigest()
