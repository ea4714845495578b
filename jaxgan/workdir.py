"""The folder of a run and its `config.json`: every setting, compared when a run resumes."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from jaxgan.errors import UsageError

FREE = (
    "steps",
    "command",
    "versions",
    "log_every",
    "sample_every",
    "checkpoint_every",
    "keep",
    "num_samples",
    "evaluate",
    "data.tags",  # what these three make of the data is in its fingerprint
    "data.skip_corrupt",
    "data.num_examples",
)
"""Settings that may differ between a run and its resumption; so may those that start with them."""

UNSAID = {"augment": "none", "precision": "float32", "gradient_accumulation": 1}
"""What a run did whose `config.json` is from before there was such a setting."""


def read(workdir: str | pathlib.Path) -> dict[str, Any]:
    """Returns the settings of a run.

    Raises:
      UsageError: if the folder is not a run's.
    """
    path = pathlib.Path(workdir) / "config.json"
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            f"{workdir} is not a workdir: it has no config.json; name the --workdir of a training"
        ) from None
    except json.JSONDecodeError as error:
        raise UsageError(f"{path} is damaged ({error}); restore it from a backup") from None


def check(workdir: str | pathlib.Path, settings: Mapping[str, Any]) -> None:
    """Changes nothing; looks whether a run can begin or go on in a folder.

    Raises:
      UsageError: if the folder holds something else, or a run with other settings.
    """
    workdir = pathlib.Path(workdir)
    if (workdir / "config.json").exists():
        # As they come back from JSON, so that tuples equal lists.
        _compare(workdir, read(workdir), json.loads(json.dumps(dict(settings))))
    elif workdir.exists() and _is_foreign(workdir):
        raise UsageError(
            f"{workdir} exists and is not a workdir: it has no config.json; choose another "
            "--workdir, or empty this one"
        )


def write(workdir: str | pathlib.Path, settings: Mapping[str, Any]) -> None:
    """Writes the settings of a run, all of them or none, into its folder."""
    temporary = pathlib.Path(workdir) / "config.json.tmp"
    temporary.write_text(json.dumps(dict(settings), indent=2) + "\n")
    os.replace(temporary, temporary.with_suffix(""))


def _is_foreign(workdir):
    """Whether there is more than what a run leaves that is killed before it has begun."""
    if not workdir.is_dir():
        return True
    paths = {str(path.relative_to(workdir)) for path in workdir.rglob("*")}
    return not paths <= {"config.json.tmp", "checkpoints", "checkpoints/.lock"}


def _compare(workdir, old, new):
    old, new = UNSAID | old, UNSAID | new
    # Of another model nearly all fields are others.
    passed_over = FREE if old.get("model") == new.get("model") else (*FREE, "config.")
    different = [
        f"{name} was {_show(before)} and is now {_show(now)}"
        for name, before, now in _differences("", old, new)
        if not name.startswith(passed_over)
    ]
    if different:
        raise UsageError(
            f"{workdir} holds a run with other settings: {'; '.join(different)}. Use the old "
            "settings to resume it, or another --workdir to start a new one"
        )


def _differences(prefix, old, new):
    for name in [*old, *(n for n in new if n not in old)]:
        before, now = old.get(name, "absent"), new.get(name, "absent")
        if isinstance(before, dict) and isinstance(now, dict):
            yield from _differences(f"{prefix}{name}.", before, now)
        elif before != now:
            yield f"{prefix}{name}", before, now


def _show(value):
    return value if isinstance(value, str) else json.dumps(value)
