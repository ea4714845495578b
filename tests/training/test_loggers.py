"""What loggers get is what `metrics.jsonl` gets, once."""

import math

import numpy as np
import pytest

from jaxgan.errors import UsageError
from jaxgan.training import loggers
from jaxgan.training.log import Log

SETTINGS = {"model": "gan", "config": {"latent_size": 4}, "seed": 3}
IMAGE = np.zeros((4, 4, 3), np.uint8)


def _run(workdir, first, last, name):
    log = Log(workdir, first, [name], SETTINGS)
    for step in range(first + 1, last + 1):
        log.metrics(step, {"generator/loss": step / 2, "odd": math.nan, "seconds": 1.0})
    log.image(last, "samples", IMAGE)
    log.close()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of SQLAlchemy, which mlflow uses
def test_mlflow_has_each_step_once_after_a_kill(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db")
    monkeypatch.chdir(tmp_path)
    workdir = tmp_path / "mine"
    workdir.mkdir()
    _run(workdir, 0, 3, "mlflow")
    _run(workdir, 1, 5, "mlflow")  # steps 2 and 3 were done, and are done again
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("jaxgan").experiment_id])
    points = client.get_metric_history(run.info.run_id, "generator/loss")
    assert [(p.step, p.value) for p in points] == [(n, n / 2) for n in range(1, 6)]
    assert "odd" not in run.data.metrics
    assert run.info.run_name == "mine" and run.info.status == "FINISHED"
    files = [file.path for file in client.list_artifacts(run.info.run_id)]
    assert files == ["config.json", "samples"]


@pytest.mark.slow
def test_wandb_writes_offline_and_goes_on(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    _run(tmp_path, 0, 3, "wandb")
    _run(tmp_path, 3, 5, "wandb")
    wandb.teardown()  # whose process writes the files
    stored = sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert len({file.stem for file in stored}) == 1  # one run, in two parts
    assert all(b"generator/loss" in file.read_bytes() for file in stored)
    assert b"latent_size" in stored[0].read_bytes()
    assert list(tmp_path.glob("wandb/offline-run-*/files/media/images/samples_*.png"))


def test_an_unknown_logger_has_its_nearest():
    with pytest.raises(UsageError, match="unknown logger 'wanbd' .did you mean 'wandb'"):
        loggers.check(["tensorboard", "wanbd"])


def test_one_that_is_not_installed_has_its_command(monkeypatch):
    monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'jaxgan\[wandb\]'"):
        loggers.check(["wandb"])


def test_no_logger_is_fine(tmp_path):
    log = Log(tmp_path, 0, [])
    log.metrics(1, {"seconds": 1.0})
    log.image(1, "samples", IMAGE)
    log.close()
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
