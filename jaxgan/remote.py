"""An address of fsspec and its file system, which answers within a bounded time or is an error."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from absl import logging

from jaxgan import files
from jaxgan.errors import UsageError, nearest

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds for an answer; a transfer may take longer, by what it has to carry."""

_SLOWEST = 1e5  # bytes a second; a transfer that is slower is given up
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
_LOGIN = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run `aws configure`",
    "gcs": "run `gcloud auth application-default login`",
}


class AddressError(UsageError):
    """An address that cannot be reached, read or written; the message says what to do."""


class Remote(NamedTuple):
    """An address and its file system."""

    address: str
    system: Any  # fsspec.AbstractFileSystem
    root: str

    @classmethod
    def of(cls, address: str) -> Remote:
        import fsspec  # imports slowly, and few want it

        protocol = address.partition("://")[0]
        known = {*fsspec.available_protocols()}
        if protocol not in known:
            raise AddressError(
                f"{address}: there is no protocol {protocol!r}{nearest(protocol, known)}; name "
                "s3://, gs:// or another of fsspec's, and install the package that brings it"
            )
        try:
            return cls(address, *_ask(address, lambda: fsspec.core.url_to_fs(address)))
        except ImportError as error:
            extra = _EXTRAS.get(protocol)
            package = f": pip install 'jaxgan[{extra}]'" if extra else ""
            raise AddressError(f"{address} needs a package: {error}{package}") from None

    def at(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}"

    def listing(self) -> dict[str, Mapping[str, Any]]:
        """The files below, by relative name; "" for one that is the address itself."""

        def find():
            self.system.invalidate_cache()
            return self.system.find(self.root, detail=True)

        found = _ask(self.address, find)
        return {
            path[len(self.root) :].strip("/"): info
            for path, info in found.items()
            if info["type"] == "file" and not path.endswith("/")
        }

    def read(self, names: Iterable[str]) -> dict[str, bytes]:
        """The contents of small files; one that is gone by now is left out."""
        found = {}

        def read():
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    found[name] = self.system.cat_file(self.at(name))

        _ask(self.address, read)
        return found

    def get(self, paths: Mapping[str, Path], listing: Mapping) -> None:
        """Fetches files, each whole or not at all; one that is gone by now is left out."""

        def get():
            for name, path in paths.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
                try:
                    self.system.get_file(self.at(name), str(temporary))
                    os.replace(temporary, path)
                except FileNotFoundError:
                    logging.warning("%s/%s is gone", self.address, name)
                finally:
                    temporary.unlink(missing_ok=True)

        _ask(self.address, get, sum(listing.get(name, {}).get("size") or 0 for name in paths))

    def put(self, paths: Mapping[str, Path]) -> None:
        """Puts files up, in this order."""

        def put():
            for name, path in paths.items():
                self.system.put_file(str(path), self.at(name))

        _ask(self.address, put, sum(path.stat().st_size for path in paths.values()))

    def remove(self, name: str) -> None:
        """Removes a file or folder; it may be absent."""

        def remove():
            self.system.invalidate_cache()
            with contextlib.suppress(FileNotFoundError):
                self.system.rm(self.at(name), recursive=True)

        _ask(self.address, remove)

    def copy(self, folder: Path) -> Path:
        """Copies what is at the address into a folder, as far as it has changed."""
        listing = self.listing()
        if not listing:
            raise AddressError(f"there is nothing at {self.address}; see how it is spelled")
        alone = [*listing] == [""]
        if alone:
            listing = {self.root.rpartition("/")[2]: listing[""]}
        record = folder.with_name(f"{folder.name}.json")
        before = json.loads(record.read_text()) if record.exists() else {}
        versions = {name: _version(info) for name, info in listing.items()}
        for name in before.keys() - versions.keys():
            (folder / name).unlink(missing_ok=True)
        wanted = [
            name
            for name, version in versions.items()
            if before.get(name) != version or not (folder / name).is_file()
        ]
        for name in wanted:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).unlink(missing_ok=True)
        if wanted:
            # What is half there is fetched again, since the record does not have it.
            with files.whole(record) as file:
                json.dump({n: v for n, v in before.items() if n in versions.keys() - wanted}, file)
            there = [self.root if alone else self.at(name) for name in wanted]
            here = [str(folder / name) for name in wanted]
            size = sum(listing[name]["size"] or 0 for name in wanted)
            _ask(self.address, lambda: self.system.get(there, here), size + 1e5 * len(wanted))
            with files.whole(record) as file:
                json.dump(versions, file)
        return folder / next(iter(listing)) if alone else folder


def _ask(address: str, work: Callable[[], T], size: float = 0) -> T:
    """What `work` returns, within a bounded time.

    Raises:
      AddressError: if the file system says no, or nothing.
    """
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(work())
        except BaseException as error:
            answer.set_exception(error)

    # A thread, because not every file system limits the time that it takes.
    threading.Thread(target=run, daemon=True).start()
    protocol = address.partition("://")[0]
    try:
        return answer.result(PATIENCE + size / _SLOWEST)
    except ImportError:
        raise
    except TimeoutError:
        raise AddressError(
            f"{address} does not answer; see that the network and the address are right"
        ) from None
    except FileNotFoundError as error:
        raise AddressError(
            f"{address} is not there ({_brief(error)}); see how it is spelled, and make the bucket"
        ) from error
    except Exception as error:
        if not _is_of_the_service(error):
            raise
        login = _LOGIN.get(_EXTRAS.get(protocol, ""), "see that its file system may be used")
        raise AddressError(
            f"{address} cannot be used ({_brief(error)}); see that it is spelled right, that the "
            f"network is there, and that you may use it: {login}"
        ) from error


def _is_of_the_service(error: Exception) -> bool:
    if isinstance(error, OSError | NotImplementedError):
        return True
    return type(error).__module__.partition(".")[0] not in ("builtins", "jaxgan", "fsspec")


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]} ..."


def _version(info: Mapping[str, Any]) -> list[str]:
    """What tells one content of a file from another, as far as a file system says it."""
    names = ("size", "ETag", "etag", "md5Hash", "LastModified", "mtime", "created", "updated")
    return [str(info[name]) for name in names if info.get(name) is not None]
