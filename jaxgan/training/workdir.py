"""The folder of a run and its `config.json`: every setting, compared when a run resumes."""

from __future__ import annotations

import json
import pathlib
import re
import zlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxgan import addresses, files, processes
from jaxgan.data import Dataset
from jaxgan.errors import UsageError
from jaxgan.processes import from_process_0
from jaxgan.training import integrity

MAY_CHANGE = (
    "steps",
    "command",
    "versions",
    "log_every",
    "sample_every",
    "checkpoint_every",
    "keep",
    "num_samples",
    "evaluate",
    "logger",
    "data.tags",  # what these make of the data is in its fingerprint
    "data.label_kind",
    "data.unlabeled",
    "data.channels",
    "data.reading",
    "data.skip_corrupt",
    "data.max_pixels",
    "data.num_examples",
    "data.data_dir",
    "data.seed",
    "data.given",
)
"""Settings that may differ between a run and its resumption; so may those that start with them."""

MAY_DIFFER = ("command", "data.data_dir", "data.tags", "versions.python")
"""Settings that may differ between the processes of one run."""

EARLIER = {
    "augment": "none",
    "precision": "float32",
    "matmul_precision": "default",
    "deterministic": False,
    "gradient_accumulation": 1,
    "schedule": "host",
    "labeled": None,
}
"""What a run did whose `config.json` is from before there was such a setting."""

EARLIER_CONFIG = {"r3gan": {"full_sizes": 4}, "improved": {"average_half_life": 0.0}}
"""The same of fields of a model's Config."""


_KINDS: dict[str, type] = {
    **dict.fromkeys(("model", "dataset", "precision", "augment", "schedule"), str),
    **dict.fromkeys(("batch_size", "steps", "seed"), int),
    **dict.fromkeys(("config", "data", "versions"), dict),
}
"""Of which kind settings are that are looked at before anything else."""

_LEFT = re.compile(r"config\.json\.tmp|\.config\.json\.\w+|checkpoints(/\.lock)?")
"""What a run that was killed before it had begun may have left in its folder."""


def to_write(place: str | pathlib.Path) -> pathlib.Path:
    """Returns `addresses.to_write` of process 0; a collective call."""
    return pathlib.Path(from_process_0(lambda: str(addresses.to_write(place))))


def to_read(place: str | pathlib.Path) -> pathlib.Path:
    """Returns `addresses.to_read` of process 0; a collective call."""
    return pathlib.Path(from_process_0(lambda: str(addresses.to_read(place))))


def read(workdir: str | pathlib.Path) -> dict[str, Any]:
    """Returns the settings of a run.

    Raises:
      UsageError: if the folder is not a run's.
    """
    try:
        return files.read_object(pathlib.Path(workdir) / "config.json", _check_settings)
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            f"{addresses.shown(workdir)} is not a workdir: it has no config.json; name the "
            "--workdir of a training"
        ) from None


def _check_settings(found):
    crc = found.pop("crc", None)  # absent in runs of jaxgan 0.2.0
    if crc is not None and crc != integrity.json_crc(found):
        raise files.DamagedFile(
            'it is not what was written; if you have changed it by hand, take out its line "crc"'
        )
    about = found.get("data", {})
    for name, kind in _KINDS.items():
        if name in found and not isinstance(found[name], kind):
            raise files.DamagedFile(f"{name} is {_show(found[name])[:40]}")
    if not isinstance(about.get("spec", {}), dict):
        raise files.DamagedFile(f"data.spec is {_show(about['spec'])[:40]}")


def check(
    workdir: str | pathlib.Path, settings: Mapping[str, Any], dataset: Dataset | None = None
) -> None:
    """Changes nothing; looks whether a run can begin or go on in a folder.

    With the data set, what has changed of its pictures is said.

    Raises:
      UsageError: if the folder holds something else, or a run with other settings.
    """
    workdir = pathlib.Path(workdir)
    if (workdir / "config.json").exists():
        # As they come back from JSON, so that tuples equal lists.
        _compare(workdir, read(workdir), json.loads(json.dumps(dict(settings))), dataset)
    elif workdir.exists() and _is_foreign(workdir):
        raise UsageError(
            f"{addresses.shown(workdir)} exists and is not a workdir: it has no config.json; "
            "choose another --workdir, or empty this one"
        )


def check_alike(settings: Mapping[str, Any]) -> None:
    """Raises UsageError, on all processes of a run, unless all have the same settings.

    A collective call.
    """
    if jax.process_count() == 1:
        return
    first, *others = processes.gather(dict(settings))
    for number, other in enumerate(others, 1):
        different = [
            f"{name} is {_show(ours)} on process 0 and {_show(theirs)} on process {number}"
            for name, ours, theirs in _differences("", first, other)
            if name not in MAY_DIFFER
        ]
        if different:
            raise UsageError(
                f"the processes of a run need the same flags, pictures and versions: "
                f"{'; '.join(different)}"
            )


def write(workdir: str | pathlib.Path, settings: Mapping[str, Any]) -> None:
    """Writes the settings of a run, all of them or none, into its folder."""
    # As they come back from JSON, of which the checksum is.
    settings = json.loads(json.dumps(dict(settings)))
    with files.whole(pathlib.Path(workdir) / "config.json") as file:
        file.write(json.dumps({**settings, "crc": integrity.json_crc(settings)}, indent=2) + "\n")


def remember_pictures(workdir: str | pathlib.Path, dataset: Dataset) -> None:
    """Keeps a checksum of each picture of a run, which tell later what has changed."""
    path = pathlib.Path(workdir) / "pictures.npy"
    if not path.exists():
        with files.whole(path, "wb") as file:
            np.save(file, _checksums(dataset))


def _checksums(dataset):
    return np.array([zlib.crc32(np.ascontiguousarray(x)) for x in dataset.images], np.uint32)


def _changed_pictures(workdir, dataset, before):
    """Says how many pictures went and came; `before` is how many there were."""
    try:
        then = Counter(files.parse_npy(files.content(workdir / "pictures.npy")).tolist())
    except (OSError, files.DamagedFile):  # there is none in a run of jaxgan 0.1
        return f"the pictures changed: there were {before} and there are {len(dataset)}"
    now = Counter(_checksums(dataset).tolist())
    if then == now:
        return "the pictures are the same and their labels or their order changed"
    gone, new = ((a - b).total() for a, b in ((then, now), (now, then)))
    return f"the pictures changed: {gone} gone, {new} new"


def config_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Returns a line for the model, or for each field of its Config (rates and weights apart, which
    change no shapes) and each fact of the data in which two runs' settings differ."""
    chosen = [
        {
            "model": settings.get("model"),
            **_completed(settings).get("config", {}),
            **settings.get("data", {}).get("spec", {}),
            "name": None,
        }
        for settings in (old, new)
    ]
    if chosen[0]["model"] != chosen[1]["model"]:
        chosen = [{"model": one["model"]} for one in chosen]
    found = _differences("", *json.loads(json.dumps(chosen)))
    return [
        f"{name} was {_show(before)} and is now {_show(now)}"
        for name, before, now in found
        if not isinstance(now, float)
    ]


def _is_foreign(workdir):
    if not workdir.is_dir():
        return True
    paths = (path.relative_to(workdir) for path in workdir.rglob("*"))
    return not all(_LEFT.fullmatch(str(path)) for path in paths)


def _compare(workdir, old, new, dataset):
    old, new, shown = _completed(old), _completed(new), addresses.shown(workdir)
    # Of another model nearly all fields are others.
    passed_over = MAY_CHANGE if old.get("model") == new.get("model") else (*MAY_CHANGE, "config.")
    every = [*_differences("", old, new)]
    found = [one for one in every if not one[0].startswith(passed_over)]
    read_alike = not any(
        name.startswith("data.") and before != "absent"  # as in a run of jaxgan 0.1
        for name, before, _ in every
        if name in MAY_CHANGE
    )
    of_pictures = ("data.fingerprint", "data.examples", "data.conditions", "data.spec.label_names")
    alone = found and read_alike and all(name in of_pictures for name, *_ in found)
    if alone and dataset is not None:
        changed = _changed_pictures(workdir, dataset, old["data"]["examples"])
        raise UsageError(
            f"{changed}. {shown} goes on with those of its beginning; a new run may start from "
            f"its weights: --init_from={shown} --workdir=NEW"
        )
    different = [f"{name} was {_show(b)} and is now {_show(now)}" for name, b, now in found]
    if different:
        raise UsageError(
            f"{shown} holds a run with other settings: {'; '.join(different)}. Use the old "
            "settings to resume it, or another --workdir to start a new one"
        )


def _completed(settings):
    config = settings.get("config", {})
    earlier = EARLIER_CONFIG.get(settings.get("model"), {})
    return EARLIER | settings | ({"config": earlier | config} if "config" in settings else {})


def _differences(prefix, old, new):
    for name in [*old, *(n for n in new if n not in old)]:
        before, now = old.get(name, "absent"), new.get(name, "absent")
        if isinstance(before, dict) and isinstance(now, dict):
            yield from _differences(f"{prefix}{name}.", before, now)
        elif before != now:
            yield f"{prefix}{name}", before, now


def _show(value):
    return value if isinstance(value, str) else json.dumps(value)
