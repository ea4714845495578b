"""A run from Python: trained, opened, drawn from, measured; and what the scripts say to it."""

import ast
import dataclasses
import pathlib
import re

import chex
import jax
import numpy as np
import pytest
from commands import checkpoint, run
from helpers import TOY, toy_dataset

import jaxgan
from jaxgan.training import workdir as workdirs

TINY = {
    "config": {"generator_widths": (8,), "discriminator_widths": (8,), "latent_size": 4},
    "batch_size": 8,
    "steps": 3,
    "num_samples": 4,
    "log_every": 1,
    "progress": False,
}


def shapes(**changes):
    return jaxgan.load_data("shapes", image_size=8, num_examples=120, **changes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "mine"
    return jaxgan.train("gan", shapes(), workdir=workdir, **TINY)


def test_every_name_is_there_and_has_its_sentence():
    assert len(jaxgan.__all__) <= 25
    for name in jaxgan.__all__:
        assert getattr(jaxgan, name) is not None
        assert re.search(rf"^  {name}: .+[.,;]", jaxgan.__doc__, re.MULTILINE), name
    assert dir(jaxgan) == sorted(jaxgan.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = jaxgan.nothing


def test_a_type_checker_sees_the_same_names():
    tree = ast.parse(pathlib.Path(jaxgan.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.asname or alias.name for node in block.body for alias in node.names}
    assert seen == set(jaxgan.__all__) == jaxgan._HOMES.keys()


def test_a_run_draws_and_remembers(trained, tmp_path):
    assert trained.step == 3
    assert trained.spec.size == 8
    images = trained.sample(6, seed=1)
    assert images.shape == (6, 8, 8, trained.spec.channels)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(trained.sample(2, seed=1), images[:2])
    latent = trained.latents(6, seed=1)
    np.testing.assert_array_equal(trained.sample(6, latent=latent, seed=1), images)
    history = trained.history()
    assert history["step"].tolist() == [1, 2, 3]
    assert np.isfinite(history["generator/loss"]).all()
    jaxgan.save_grid(tmp_path / "grid.png", images, columns=3)
    assert (tmp_path / "grid.png").exists()


def test_what_was_trained_from_python_is_a_scripts_run(trained, tmp_path):
    out = tmp_path / "grid.npz"
    drawn = run("sample", f"--workdir={trained.workdir}", "--num=5", f"--out={out}")
    assert drawn.status == 0, drawn.err
    np.testing.assert_array_equal(np.load(out)["images"], trained.sample(5))
    measured = run(
        "evaluate",
        f"--workdir={trained.workdir}",
        "--num_images=100",
        "--metrics=prdc",
        "--features=random",
    )
    assert measured.status == 0, measured.err
    found = trained.evaluate(100, metrics=["prdc"], features="random", progress=False)
    assert found.keys() >= {"precision", "recall"}


def test_a_script_and_python_train_the_same(trained, tmp_path):
    made = run(
        "train",
        "--model=gan",
        "--dataset=shapes",
        "--image_size=8",
        "--num_examples=120",
        "--batch_size=8",
        "--set=generator_widths=8",
        "--set=discriminator_widths=8",
        "--set=latent_size=4",
        "--num_samples=4",
        "--log_every=1",
        "--steps=3",
        f"--workdir={tmp_path}/run",
    )
    assert made.status == 0, made.err
    opened = jaxgan.open_run(tmp_path / "run")
    chex.assert_trees_all_equal(opened.state, trained.state)
    ours, theirs = (dict(r.settings) for r in (trained, opened))
    assert ours.pop("command") and theirs.pop("command")
    assert ours == theirs


def test_it_goes_on(trained, tmp_path):
    jaxgan.train("gan", shapes(), workdir=tmp_path / "run", **TINY | {"steps": 1})
    again = jaxgan.train("gan", shapes(), workdir=tmp_path / "run", **TINY)
    chex.assert_trees_all_equal(again.state, trained.state)
    assert jaxgan.open_run(tmp_path / "run", checkpoint=1).step == 1
    with pytest.raises(jaxgan.UsageError, match="batch_size was 8 and is now 4"):
        jaxgan.train("gan", shapes(), workdir=tmp_path / "run", **TINY | {"batch_size": 4})


def test_config_json_is_whole(trained):
    settings = workdirs.read(trained.workdir)
    assert settings["model"] == "gan"
    assert settings["config"]["latent_size"] == 4
    assert settings["dataset"] == "shapes"
    assert settings["data"]["num_examples"] == 120
    assert {"data_dir", "fingerprint", "holdout"} <= settings["data"].keys()
    assert settings["versions"].keys() >= {"jaxgan", "jax", "commit"}
    assert settings["schedule"] == "host" or jax.default_backend() != "cpu"


def test_labels_are_names_or_vectors(tmp_path):
    pictures = shapes()
    config = {"generator_widths": (8,), "discriminator_widths": (8,), "latent_size": 4}
    opened = jaxgan.train("cgan", pictures, workdir=tmp_path / "run", **TINY | {"config": config})
    one, other = pictures.spec.label_names[:2]
    label = opened.labels(f"{one};{other}")
    assert label.shape == (2, len(pictures.spec.label_names))
    images = opened.sample(4, labels=f"{one};{other}")
    np.testing.assert_array_equal(opened.sample(4, labels=label), images)
    assert opened.sample(5).shape[0] == 5
    with pytest.raises(jaxgan.UsageError, match="no such"):
        opened.labels("no such")


def test_a_gan_of_ones_own(tmp_path):
    settings = {name: value for name, value in TINY.items() if name != "config"}
    opened = jaxgan.train(TOY, toy_dataset(120), workdir=tmp_path / "run", **settings)
    assert opened.sample(3).shape == (3, 2, 2, 1)
    again = jaxgan.open_run(tmp_path / "run", gan=TOY)
    np.testing.assert_array_equal(again.sample(3), opened.sample(3))
    with pytest.raises(jaxgan.UsageError, match=r"open_run\(DIR, gan=...\)"):
        jaxgan.open_run(tmp_path / "run")
    refused = run("sample", f"--workdir={tmp_path}/run")
    assert refused.status == 1
    assert "open_run(DIR, gan=...)" in refused.err and "Traceback" not in refused.err
    with pytest.raises(jaxgan.DataError, match="give them again"):
        opened.evaluate(4)
    assert opened.evaluate(100, pictures=toy_dataset(120), metrics=["prdc"], features="random")
    with pytest.raises(jaxgan.UsageError, match="not those of the training"):
        opened.evaluate(100, pictures=dataclasses.replace(toy_dataset(120), fingerprint="others"))


def test_a_function_of_the_plan_sees_the_run(tmp_path):
    plans = []

    def make(plan):
        plans.append(plan)
        return TOY

    settings = {name: value for name, value in TINY.items() if name != "config"}
    jaxgan.train(make, toy_dataset(120), workdir=tmp_path / "run", **settings)
    assert set(plans) == {jaxgan.Plan(8, 3)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step": 3}, "unknown option 'step' .did you mean 'steps'"),
        ({"config": {"width": 3}}, "unknown field 'width'"),
        ({"precision": "half"}, "unknown precision 'half'"),
        ({"schedule": "gpu"}, "unknown schedule 'gpu'"),
        ({"matmul_precision": "float32"}, "unknown matmul_precision 'float32'"),
        ({"metrics": ["fidd"]}, "unknown metric 'fidd'"),
        ({"batch_size": 7}, "batch of 7 cannot be divided"),
    ],
)
def test_bad_settings(changes, message, tmp_path):
    with pytest.raises(jaxgan.UsageError, match=message):
        jaxgan.train("gan", shapes(), workdir=tmp_path / "run", **TINY | changes)
    assert not list(tmp_path.iterdir())


def test_an_unknown_model():
    with pytest.raises(jaxgan.UsageError, match="unknown model 'gann'"):
        jaxgan.train("gann", shapes(), workdir="nowhere", **TINY)


def test_the_last_checkpoint_is_the_scripts(trained):
    arrays = checkpoint(trained.workdir, 3)
    some = next(name for name in arrays if name.startswith("ema/params"))
    leaf = trained.variables
    for part in some.split("/")[1:]:
        leaf = leaf[part]
    np.testing.assert_array_equal(leaf, arrays[some])
