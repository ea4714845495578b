"""Workdirs and data at addresses of fsspec, such as `s3://bucket/runs/mine`, through local mirrors.

All else works on folders of this machine's disk. A workdir's mirror is fetched when a command
begins, of its checkpoints only the manifests until one is read; what is written there is put up. A
checkpoint is put up with its `manifest.json` last and taken away with it first: a step that has
one, with all the files that it names, is whole, and any other is none. What is read is checked
against the manifest's checksums, as on a disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, unquote

from absl import logging

from jaxgan import files
from jaxgan.remote import AddressError, Remote

Place = str | os.PathLike[str]
"""A path or an address."""

_ADDRESS = re.compile(r"([A-Za-z][\w+.-]+):/+(.*)")  # pathlib leaves one slash of two
_STEP = re.compile(r"checkpoints/(\d+)/(.+)")
_UNSENT = ".unsent"  # in a mirror while files are being put up


def is_address(place: Place | None) -> bool:
    """Whether a place is an address, and no path."""
    return place is not None and _ADDRESS.fullmatch(os.fspath(place)) is not None


def join(place: Place, name: str) -> str | Path:
    """Returns the place of a name in a folder."""
    return f"{_normal(place)}/{name}" if is_address(place) else Path(place) / name


def shown(path: Place) -> str:
    """Returns a path for people to read: of a mirror the address."""
    found = _mirrored(Path(path))
    return str(path) if found is None else "/".join(filter(None, found))


def mirror(place: Place, kind: str = "runs") -> Path:
    """Returns the local folder that stands for a place, a path being itself; fetches nothing."""
    if not is_address(place):
        return Path(place)
    address = _normal(place)
    if address.startswith(("file://", "local://")):
        return Path("/", address.partition("://")[2])
    name = quote(address, safe="")
    if len(name) > 255:
        raise AddressError(f"{address} is too long an address; name a shorter one")
    return _root() / kind / name


def to_write(place: Place) -> Path:
    """Returns the folder of a run that is to be trained: a path itself, an address's mirror.

    The mirror becomes what is at the address. If it holds later steps of the same run, because they
    could not be put up, then these are put up now.

    Raises:
      AddressError: if the address does not answer, or holds something else than a run.
    """
    folder = mirror(place)
    if not _is_remote(place) or _is_locked(folder / "checkpoints" / ".lock"):
        return folder  # of a training on this machine, which will be said
    remote = Remote.of(_normal(place))
    listing = remote.listing()
    if listing and not {"run_id", "config.json"} & listing.keys():
        raise AddressError(
            f"{remote.address} is not a workdir: it has no config.json; choose another --workdir, "
            "or empty this one"
        )
    if "config.json" not in listing:
        shutil.rmtree(folder, ignore_errors=True)
        return folder
    whole = _whole_steps(remote, listing)
    there, here = max(whole, default=-1), _local_steps(folder)
    ahead = [step for step in here if step > there]
    unsent = ahead or ((folder / _UNSENT).exists() and max(here, default=-1) == there)
    if unsent and _is_of(remote, folder, listing):
        logging.warning("%s: what could not be put up is put up now", remote.address)
        Mirror(folder, sent=False).put_up()
        for step in ahead:
            put_step(folder / "checkpoints" / str(step))
    else:
        _fetch(remote, folder, listing, whole)
    for step in _steps_in(listing) - whole.keys():  # left by a kill
        remote.remove(f"checkpoints/{step}")
    return folder


def to_read(place: Place) -> Path:
    """Returns the folder of a run that is looked at: a path itself, an address's mirror.

    Raises:
      AddressError: if the address does not answer.
    """
    folder = mirror(place, "read")
    if _is_remote(place):
        remote = Remote.of(_normal(place))
        listing = remote.listing()
        if "config.json" in listing:
            _fetch(remote, folder, listing, _whole_steps(remote, listing))
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return folder


def runs_below(address: str) -> list[str]:
    """Returns the addresses of the runs at an address and in its folders, in order."""
    listing = Remote.of(_normal(address)).listing()
    found = (name for name in listing if name.rpartition("/")[2] == "config.json")
    return sorted(f"{_normal(address)}/{name}".removesuffix("/config.json") for name in found)


def fetched(place: Place, cache_dir: Path) -> Path:
    """Returns data as files on this machine: a path itself, of an address a copy in `cache_dir`.

    What is there already, and has not changed at the address, is not fetched again.

    Raises:
      AddressError: if the address does not answer, or nothing is there.
    """
    if not _is_remote(place):
        return mirror(place).expanduser()
    remote = Remote.of(_normal(place))
    name = quote(remote.address, safe="")
    folder = Path(os.path.abspath(cache_dir)) / "fetched" / name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder.with_name(f"{name}.lock")).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # processes of one machine share the copy
        return remote.copy(folder)


def put_up(path: Path) -> None:
    """Puts up a file that was written in a mirror; elsewhere it does nothing.

    Raises:
      AddressError: if the address does not answer.
    """
    found = _mirrored(path)
    if found is not None:
        address, name = found
        Remote.of(address).put({name: path})


def fetch_step(path: Path) -> None:
    """Fetches what a mirror lacks of a checkpoint; a step that is gone by now goes here, too.

    Raises:
      AddressError: if the address does not answer.
    """
    found = _mirrored(path)
    if found is None:
        return
    with contextlib.suppress(OSError, json.JSONDecodeError):
        names = json.loads((path / "manifest.json").read_text())["files"]
        missing = {f"{found[1]}/{n}": path / n for n in names if not (path / n).is_file()}
        if missing:
            remote = Remote.of(found[0])
            remote.get(missing, remote.listing())
        if not all((path / name).is_file() for name in names):
            shutil.rmtree(path)


def put_step(path: Path) -> None:
    """Puts up the folder of a checkpoint that was written in a mirror, its manifest last.

    Raises:
      AddressError: if the address does not answer.
    """
    found = _mirrored(path)
    if found is None:
        return
    address, name = found
    remote, last = Remote.of(address), path / "manifest.json"
    remote.remove(f"{name}/manifest.json")  # of a step that was damaged and is made again
    inner = sorted(file for file in path.rglob("*") if file.is_file() and file != last)
    remote.put({f"{name}/{file.relative_to(path).as_posix()}": file for file in [*inner, last]})


def drop_step(path: Path) -> None:
    """Takes an old checkpoint of a mirror from its address, the manifest first; else a warning."""
    found = _mirrored(path)
    if found is None:
        return
    address, name = found
    try:
        remote = Remote.of(address)
        remote.remove(f"{name}/manifest.json")
        remote.remove(name)
    except AddressError as error:
        logging.warning("%s/%s is not deleted: %s", address, name, error)


class Mirror:
    """Puts up what changes in a run's folder beside its checkpoints; nothing of a local run.

    Files are put up whole, `metrics.jsonl` too, `config.json` last, since with it a run is there.

    Args:
      folder: of the run.
      sent: whether what is in it now is at the address already.
    """

    def __init__(self, folder: Path, *, sent: bool = True) -> None:
        found = _mirrored(folder)
        self._folder, self._address = folder, found and found[0]
        self._sent = self._stamps() if self._address and sent else {}

    def put_up(self) -> None:
        """Raises AddressError if the address does not answer."""
        if self._address is None or not self._folder.is_dir():
            return
        if not (self._folder / "run_id").exists():
            (self._folder / "run_id").write_text(secrets.token_hex(8))
        stamps = self._stamps()
        changed = [name for name, stamp in stamps.items() if self._sent.get(name) != stamp]
        if changed:
            order = sorted(changed, key=lambda name: (name == "config.json", name != "run_id"))
            (self._folder / _UNSENT).touch()
            Remote.of(self._address).put({name: self._folder / name for name in order})
            (self._folder / _UNSENT).unlink(missing_ok=True)
        self._sent = stamps

    def _stamps(self) -> dict[str, tuple[int, int]]:
        found = {}
        for path in sorted(self._folder.rglob("*")):
            name = path.relative_to(self._folder)
            if name.parts[0] != "checkpoints" and path.name[0] != "." and path.is_file():
                found[name.as_posix()] = (path.stat().st_size, path.stat().st_mtime_ns)
        return found


def _whole_steps(remote: Remote, listing: Mapping) -> dict[int, bytes]:
    """The manifests of the steps of which all is there."""
    names = {s: f"checkpoints/{s}/manifest.json" for s in _steps_in(listing)}
    texts = remote.read(name for name in names.values() if name in listing)
    found = {}
    for step, name in names.items():
        with contextlib.suppress(KeyError, json.JSONDecodeError, UnicodeDecodeError):
            inner = json.loads(texts[name])["files"]
            if all(f"checkpoints/{step}/{file}" in listing for file in inner):
                found[step] = texts[name]
    return found


def _is_of(remote: Remote, folder: Path, listing: Mapping) -> bool:
    """Whether a mirror is of the run that is at the address."""
    path = folder / "run_id"
    there = remote.read(["run_id"] if "run_id" in listing else [])
    return path.exists() and there.get("run_id") == path.read_bytes()


def _fetch(remote: Remote, folder: Path, listing: Mapping, whole: Mapping[int, bytes]) -> None:
    """Makes the mirror what the address is, of whole steps the manifests."""
    if not _is_of(remote, folder, listing):
        shutil.rmtree(folder, ignore_errors=True)
    wanted = {}
    for name, info in listing.items():
        path = folder / name
        alike = path.is_file() and path.stat().st_size == info["size"]
        if not name.startswith("checkpoints/") and (name == "config.json" or not alike):
            wanted[name] = path
    remote.get(wanted, listing)
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    for step in _local_steps(folder):
        if step not in whole:
            shutil.rmtree(checkpoints / str(step), ignore_errors=True)
    for step, manifest in whole.items():
        path = checkpoints / str(step) / "manifest.json"
        if not path.exists() or path.read_bytes() != manifest:
            shutil.rmtree(path.parent, ignore_errors=True)
            path.parent.mkdir()
            with files.whole(path, "wb") as file:
                file.write(manifest)


def _steps_in(listing: Mapping) -> set[int]:
    return {int(found[1]) for found in map(_STEP.fullmatch, listing) if found}


def _local_steps(folder: Path) -> list[int]:
    return sorted(int(p.name) for p in (folder / "checkpoints").glob("*") if p.name.isdecimal())


def _normal(place: Place) -> str:
    protocol, rest = _ADDRESS.fullmatch(os.fspath(place)).groups()
    return f"{protocol.lower()}://{rest.rstrip('/')}"


def _root() -> Path:
    return Path(os.path.abspath(files.user_cache() / "addresses"))


def _is_remote(place: Place) -> bool:
    return is_address(place) and _mirrored(mirror(place)) is not None  # but not file:///


def _mirrored(path: Path) -> tuple[str, str] | None:
    """The address of the run in whose mirror a path lies, and the path within; None elsewhere."""
    path, root = Path(os.path.abspath(path)), _root()
    if not path.is_relative_to(root):
        return None
    _, name, *inner = path.relative_to(root).parts
    return unquote(name), "/".join(inner)


def _is_locked(path: Path) -> bool:
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
