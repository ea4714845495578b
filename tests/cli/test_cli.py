"""What the scripts promise to somebody who gives the commands of the README."""

import json
import re
import shlex
import subprocess
import sys

import jax
import numpy as np
import pytest
from commands import (
    EXPERIMENTS,
    TINY,
    assert_same_bits,
    checkpoint,
    finish,
    load,
    run,
    start,
    tree,
)
from conftest import ROOT
from PIL import Image

from jaxgan import data, devices, files, processes
from jaxgan.cli.overrides import override
from jaxgan.core import Gan, Plan
from jaxgan.data import DataSpec
from jaxgan.evaluation.evaluator import Evaluator
from jaxgan.models import MODELS
from jaxgan.stages import as_stages

RECIPES = sorted((EXPERIMENTS / "recipes").glob("*.cfg"))


FAR = ("--set=ema_half_life=100", "--set=learning_rate=0.01")
"""Settings that set a run's average apart from its last weights in a few steps."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The workdir of a training of six steps."""
    workdir = tmp_path_factory.mktemp("trained") / "run"
    made = run(
        "train",
        *TINY,
        "--steps=6",
        "--checkpoint_every=3",
        "--sample_every=3",
        *FAR,
        f"--workdir={workdir}",
    )
    assert made.status == 0, made.err
    head = [
        "shapes: 40 pictures, 8x8 RGB, 24 tags",
        "gan: generator 1,768 parameters, discriminator 1,553 parameters",
        "4 x cpu, float32",
        f"{workdir}: new run, to step 6",
    ]
    end = f"samples: {workdir}/samples/step_00000006.png"
    complete = f"complete: jaxgan sample --workdir={workdir} --out=grid.png draws"
    assert made.out.splitlines() == [*head, end, complete]
    return workdir


@pytest.fixture
def pictures(tmp_path):
    """A folder of twenty PNGs, no two alike."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(20):
        pixels = random.integers(0, 256, (10, 12, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    return folder


def _pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def _on(pictures, *more):
    """The flags of a tiny training on a folder."""
    tiny = [flag for flag in TINY if not flag.startswith("--num_examples")]
    return [*tiny, "--dataset=folder", f"--data_dir={pictures}", *more]


# Training.


def test_without_flags_the_paper_s_wgan_gp_meets_shapes():
    script = load("train")
    assert (script.FLAGS.model, script.FLAGS.dataset) == ("wgan_gp", "shapes")
    assert not script.FLAGS.set


@pytest.mark.parametrize("script", ["train", "sample"])
def test_help_names_every_flag_of_the_script(script):
    shown = subprocess.run(
        [sys.executable, EXPERIMENTS / f"{script}.py", "--help"], capture_output=True, text=True
    )
    module = load(script, "--workdir=DIR")
    assert shown.stdout.startswith(module.__doc__)
    for flag in module.FLAGS.get_flags_for_module(module.__name__):
        assert f"--{flag.name}:" in shown.stdout or f"--[no]{flag.name}:" in shown.stdout
    assert ("--coordinator:" in shown.stdout) == (script == "train")
    assert not shown.stderr


def test_a_workdir_holds_what_happened(trained):
    settings = json.loads((trained / "config.json").read_text())
    assert settings["model"] == "gan"
    assert settings["config"]["generator_widths"] == [8]
    assert settings["config"]["beta1"] == 0.5  # which was not set
    assert settings["data"]["examples"] == 40
    assert settings["data"]["fingerprint"]
    assert settings["versions"].keys() >= {"jax", "flax", "jaxgan", "python", "device"}
    assert (settings["batch_size"], settings["steps"], settings["seed"]) == (8, 6, 0)

    lines = files.read_json_lines(trained / "metrics.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line["images"] for line in lines] == [8, 16, 24, 32, 40, 48]
    for line in lines:
        assert line["seconds"] > 0
        assert line["images_per_second"] > 0
        assert line["skipped"] == 0
        assert 0 < line["discriminator/real_probability"] < 1
        assert 0 < line["discriminator/fake_probability"] < 1
        assert np.isfinite([line["discriminator/loss"], line["generator/loss"]]).all()

    assert sorted(path.name for path in (trained / "checkpoints").glob("[0-9]*")) == ["3", "6"]
    start, middle, last = (_pixels(path) for path in sorted((trained / "samples").iterdir()))
    assert start.shape == middle.shape == last.shape
    # 2 x 2 of 8 pixels, each enlarged to 64, and a gap of 2.
    assert last.shape == (130, 130, 3)
    assert np.any(start != middle) and np.any(middle != last)
    assert _pixels(trained / "curves.png").shape > (100, 100)


def test_tensorboard_shows_the_scalars_and_the_samples(trained):
    (file,) = (trained / "tensorboard").iterdir()
    content = file.read_bytes()
    assert content.count(b"discriminator/real_probability") == 6
    assert content.count(b"samples") == 3
    assert content.count(b"\x89PNG") == 3


def test_the_same_command_again_changes_nothing(trained):
    before = tree(trained)
    command = json.loads((trained / "config.json").read_text())["command"]
    again = run(*shlex.split(command))
    assert again.status == 0
    assert again.out.splitlines()[0] == f"samples: {trained}/samples/step_00000006.png"
    assert tree(trained) == before


def test_fewer_steps_than_there_are_change_nothing(trained):
    before = tree(trained)
    again = run("train", *TINY, *FAR, "--steps=4", f"--workdir={trained}")
    assert again.status == 0
    assert f"{trained} is at step 6 already, --steps=4 is behind it" in again.out
    assert tree(trained) == before


def test_a_training_in_two_parts_ends_with_the_same_bits(trained, tmp_path):
    common = (*TINY, *FAR, f"--workdir={tmp_path}/run")
    assert run("train", *common, "--steps=4").status == 0
    # How often something is written may change, and nothing comes of it.
    assert run("train", *common, "--steps=6", "--log_every=2").status == 0
    assert_same_bits(checkpoint(tmp_path / "run"), checkpoint(trained))

    parts, whole = (
        files.read_json_lines(path / "metrics.jsonl") for path in (tmp_path / "run", trained)
    )
    whole.pop(4)  # step 5, of which the second part wrote nothing
    times = {"seconds": 0, "images_per_second": 0}
    assert [line | times for line in parts] == [line | times for line in whole]
    assert np.all(np.diff([line["seconds"] for line in parts]) > 0)
    for path in (tmp_path / "run", trained):
        assert (path / "samples" / "step_00000006.png").exists()
    assert (tmp_path / "run" / "samples" / "step_00000006.png").read_bytes() == (
        trained / "samples" / "step_00000006.png"
    ).read_bytes()


@pytest.mark.slow
def test_an_augmented_run_goes_on_as_one_and_can_be_drawn_from(tmp_path):
    workdir = tmp_path / "run"
    arguments = [*TINY, f"--workdir={workdir}", "--augment=ada"]
    for steps in (3, 5):
        result = run("train", *arguments, f"--steps={steps}")
        assert result.status == 0, result.err
    unbroken = run("train", *arguments, "--steps=5", f"--workdir={tmp_path / 'other'}")
    assert unbroken.status == 0, unbroken.err
    end = checkpoint(workdir)
    assert_same_bits(end, checkpoint(tmp_path / "other"))
    assert end["memory/augment/batches"] == 1
    lines = files.read_json_lines(workdir / "metrics.jsonl")
    assert lines[-1]["discriminator/augment_p"] == end["memory/augment/p"]
    drawn = run("sample", f"--workdir={workdir}", "--num=4", f"--out={tmp_path / 'grid.png'}")
    assert drawn.status == 0, drawn.err
    refused = run("train", *TINY, f"--workdir={workdir}", "--steps=5")
    assert refused.status == 1 and "augment was ada and is now none" in refused.err
    unknown = run("train", *TINY, "--augment=adaptive")
    assert unknown.status == 1 and "unknown augmentation 'adaptive'" in unknown.err


def test_epochs_count_pictures(tmp_path):
    assert run("train", *TINY, "--epochs=0.5", f"--workdir={tmp_path}/run").status == 0
    assert [
        line["images"] for line in files.read_json_lines(tmp_path / "run" / "metrics.jsonl")
    ] == [8, 16]


def test_a_dry_run_tells_the_cost_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = run("train", *TINY, "--steps=1000", f"--workdir={tmp_path}/run", "--dry_run")
    assert shown.status == 0, shown.err
    # 4 to 8 to 8 * 8 * 3, and back to 1; each with a bias.
    assert "generator: 1,768 parameters" in shown.out
    assert "discriminator: 1,553 parameters" in shown.out
    for player in ("generator", "discriminator"):
        line = next(line for line in shown.out.splitlines() if f"update of the {player}" in line)
        assert "GFLOP" in line
        assert "MiB" in line
    assert "s/kimg on 4 x cpu, batch 8" in shown.out
    assert "1,000 steps take about" in shown.out
    assert not list(tmp_path.iterdir())


def test_a_dry_run_of_what_does_not_fit_says_how_much_it_needs(monkeypatch):
    monkeypatch.setattr(devices, "memory", lambda: 20_000)
    shown = run("train", *TINY, "--dry_run")
    assert shown.status == 0, shown.err
    assert "GFLOP" in shown.out and "s/kimg" not in shown.out
    assert re.search(r"needs [\d.e-]+ GB, this machine has 2e-05 a device", shown.out)


def test_a_later_stages_groups_are_checked_before_the_first_step(tmp_path):
    refused = run(
        "train",
        "--model=progan",
        "--dataset=shapes",
        "--image_size=8",
        "--num_examples=40",
        "--batch_size=32",
        "--gradient_accumulation=2",
        "--set=width=4",
        "--set=latent_size=4",
        "--set=batch_sizes=32,16",
        f"--workdir={tmp_path / 'run'}",
    )
    assert refused.status == 1
    assert "8 px: of a batch of 16 a device looks at 2 at a time" in refused.err
    assert "2 pieces by gradient accumulation" in refused.err and "groups of 4" in refused.err
    assert not (tmp_path / "run").exists()


def test_a_run_without_a_workdir_goes_to_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = run("train", *TINY, "--steps=1")
    assert "samples: runs/gan_shapes/samples/step_00000001.png\n" in made.out
    assert (tmp_path / "runs" / "gan_shapes" / "config.json").exists()


class _Terminal:
    """Takes what is written, as a terminal."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass

    def isatty(self):
        return True

    def fileno(self):
        raise OSError("nothing to measure")


def test_the_bar_moves_in_a_terminal_and_is_lines_in_a_pipe(tmp_path, monkeypatch):
    piped = run("train", *TINY, "--steps=2", f"--workdir={tmp_path}/run").err
    assert "\r" not in piped
    lines = [line for line in piped.splitlines() if "/2 [" in line]
    assert lines[0] == "0% 0/2 [00:00<?, ?step/s]"
    assert lines[-1].startswith("100% 2/2 [")
    assert "D loss" in lines[-1]
    # Not a line for every step that is logged.
    assert len(lines) < 5

    script, terminal = load("train", *TINY, "--steps=3", f"--workdir={tmp_path}/run"), _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    script.main(["train"])
    assert "\r" in terminal.text
    assert "3/3" in terminal.text


# Recipes.


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_makes_its_gan(recipe, monkeypatch):
    monkeypatch.chdir(ROOT)  # flagfiles name one another from there
    flags = load("train", f"--flagfile={recipe}").FLAGS
    assert flags.dataset in data.DATASETS
    if flags.dataset in ("shapes", "glyphs"):
        spec = data.load(flags.dataset, image_size=flags.image_size, num_examples=1).spec
    else:
        size, channels, kind = {
            "mnist": (28, 1, "class"),
            "anime": (64, 3, None),
            "anime_hair": (64, 3, "class"),
            "iclevr": (64, 3, "tags"),
            "cifar10": (32, 3, "class"),
            "folder": (64, 3, "class" if flags.tags == "folders" else None),
        }[flags.dataset]
        names = ("a", "b") if kind else ()
        spec = DataSpec(flags.dataset, flags.image_size or size, channels, kind, names)
    config = override(MODELS[flags.model].Config(), flags.set)
    made = MODELS[flags.model].make(spec, config, Plan(flags.batch_size, 1))
    for stage in as_stages(made, spec.size, flags.batch_size):
        assert isinstance(stage.gan, Gan)
        jax.eval_shape(stage.gan.init, jax.random.key(0))


def test_r3gan_has_one_width_at_all_sizes_of_imagenet_at_64_px(monkeypatch):
    # The official code's channels at 4 to 64 px: 1536 five times.
    monkeypatch.chdir(ROOT)
    flags = load("train", "--flagfile=experiments/recipes/imagenet64_r3gan.cfg").FLAGS
    config = override(MODELS["r3gan"].Config(), flags.set)
    spec = DataSpec("imagenet", flags.image_size, 3, "class", ("a", "b"))
    gan = MODELS["r3gan"].make(spec, config, Plan(flags.batch_size, 1))
    for variables in jax.eval_shape(gan.init, jax.random.key(0)).values():
        kernels = jax.tree_util.tree_leaves_with_path(variables["params"])
        inner = [x.shape[-1] for path, x in kernels if "GroupedConv" in jax.tree_util.keystr(path)]
        assert inner == [2 * 1536] * 10


def test_what_follows_a_recipe_overrides_it(monkeypatch):
    monkeypatch.chdir(ROOT)
    recipe = "--flagfile=experiments/recipes/anime_wgan_gp_small.cfg"
    script = load("train", recipe, "--set=width=8", "--batch_size=16")
    config = override(MODELS["wgan_gp"].Config(), script.FLAGS.set)
    assert (config.width, config.n_critic, config.beta2) == (8, 2, 0.9)
    assert script.FLAGS.batch_size == 16


# Pictures.


def test_a_folder_of_pictures(pictures, tmp_path):
    def settings_and_weights(name, *flags):
        workdir = tmp_path / name
        made = run("train", *_on(pictures, "--steps=2", f"--workdir={workdir}", *flags))
        assert made.status == 0, made.err
        return json.loads((workdir / "config.json").read_text()), checkpoint(workdir)

    plain, weights = settings_and_weights("plain")
    assert plain["data"]["examples"] == 20
    assert plain["data"]["spec"]["size"] == 8
    held, _ = settings_and_weights("held", "--holdout=0.4")
    assert 8 <= held["data"]["examples"] < 20
    flipped, mirrored = settings_and_weights("flipped", "--flip")
    assert flipped["data"]["flip"]
    kernel = "variables/discriminator/params/Dense_0/kernel"
    assert np.any(weights[kernel] != mirrored[kernel])


def test_a_corrupt_picture_is_named_or_left_out(pictures, tmp_path, caplog):
    (pictures / "03.png").write_bytes(b"no picture")
    common = _on(pictures, "--steps=1", f"--workdir={tmp_path}/run")
    refused = run("train", *common)
    assert refused.status == 1
    assert "03.png" in refused.err
    assert len(refused.err.splitlines()) == 1
    assert not (tmp_path / "run").exists()

    assert run("train", *common, "--skip_corrupt").status == 0
    assert "1 of 20 pictures" in caplog.text
    assert "03.png" in caplog.text
    assert json.loads((tmp_path / "run" / "config.json").read_text())["data"]["examples"] == 19


def test_where_pictures_are_looked_for(pictures, tmp_path, monkeypatch):
    # Anime faces have a place of their own in the folder of all data.
    common = [flag for flag in _on(pictures) if not flag.startswith(("--data", "--dataset"))]
    common += ["--dataset=anime", "--steps=1", f"--workdir={tmp_path}/run"]
    monkeypatch.delenv("JAXGAN_DATA", raising=False)
    refused = run("train", *common)
    assert refused.status == 1
    assert str(data.default_data_dir().relative_to(data.default_data_dir().parents[1])) in (
        refused.err
    )
    assert "JAXGAN_DATA" in refused.err
    assert not (tmp_path / "run").exists()

    pictures.rename(tmp_path / "anime")
    monkeypatch.setenv("JAXGAN_DATA", str(tmp_path))
    assert run("train", *common).status == 0


# Fine-tuning.


def test_another_run_s_weights_are_where_a_run_may_start(trained, tmp_path):
    standing = ("--set=learning_rate=0", f"--init_from={trained}")
    made = run("train", *TINY, *standing, "--seed=1", "--steps=1", f"--workdir={tmp_path}/run")
    assert made.status == 0, made.err
    old, new = checkpoint(trained), checkpoint(tmp_path / "run")
    for name, array in old.items():
        if name.startswith("variables"):
            np.testing.assert_array_equal(new[name], array, err_msg=name)
    assert new["step"] == 1


def test_what_does_not_fit_is_named_and_starts_anew(trained, tmp_path, caplog):
    wider = [flag.replace("generator_widths=8", "generator_widths=16") for flag in TINY]
    made = run("train", *wider, f"--init_from={trained}", "--steps=1", f"--workdir={tmp_path}/run")
    assert made.status == 0, made.err
    assert (
        "weights of step 6, 6 of 12 arrays fit, the others start over: generator_widths was "
        "[8] and is now [16]\n"
    ) in caplog.text
    assert "discriminator/params" not in caplog.text.replace("generator/params", "")


def test_a_fine_tuned_run_goes_on_without_the_other(trained, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name, content in tree(trained).items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content)
    common = (*TINY, f"--init_from={source}", f"--workdir={tmp_path}/run")
    assert run("train", *common, "--steps=1").status == 0
    source.rename(tmp_path / "elsewhere")
    resumed = run("train", *common, "--steps=2")
    assert resumed.status == 0, resumed.err


# Sampling.


def _draw(workdir, out, *flags):
    made = run("sample", f"--workdir={workdir}", f"--out={out}", *flags)
    assert made.status == 0, made.err
    assert made.out == f"{out}\n"


def _drawn(workdir, out, *flags):
    _draw(workdir, out, *flags)
    return np.load(out)["images"]


def test_samples_as_a_grid_strips_a_folder_and_arrays(trained, tmp_path):
    images = _drawn(trained, tmp_path / "x.npz", "--num=5")
    assert images.shape == (5, 8, 8, 3)
    assert images.dtype == np.uint8
    assert len(np.unique(images.reshape(5, -1), axis=0)) == 5

    _draw(trained, tmp_path / "new" / "grid.png", "--num=5")
    grid = _pixels(tmp_path / "new" / "grid.png")
    # 8 pixels are enlarged to 64, and a gap of 2.
    assert grid.shape == (2 * 66 - 2, 3 * 66 - 2, 3)
    np.testing.assert_array_equal(grid[:64:8, :64:8], images[0])
    np.testing.assert_array_equal(grid[66::8, 66:130:8], images[4])

    _draw(trained, tmp_path / "folder", "--num=5", "--batch_size=2")
    files = sorted((tmp_path / "folder").iterdir())
    assert [path.name for path in files] == [f"{number:06d}.png" for number in range(5)]
    np.testing.assert_array_equal([_pixels(path) for path in files], images)

    _draw(trained, tmp_path / "strips.png", "--num=2", "--interpolate=4")
    strips = _pixels(tmp_path / "strips.png")
    assert strips.shape == (2 * 66 - 2, 4 * 66 - 2, 3)


def test_a_conditional_model_draws_what_it_is_asked_for(tmp_path):
    workdir = tmp_path / "run"
    narrow = [f"--set={player}_widths=8" for player in ("generator", "discriminator")]
    made = run(
        "train",
        *("--model=cgan", "--dataset=glyphs", "--num_examples=16", "--batch_size=8"),
        *("--steps=1", "--num_samples=20", f"--workdir={workdir}", *narrow),
    )
    assert made.status == 0, made.err
    grid = _pixels(workdir / "samples" / "step_00000001.png")
    # 28 pixels are enlarged to 56; captions beside two columns.
    assert len(grid) == 10 * 58 - 2 and grid.shape[1] > 2 * 58

    _draw(workdir, tmp_path / "x.npz", "--labels=3;7", "--num=2")
    drawn = np.load(tmp_path / "x.npz")
    assert drawn["images"].shape == (4, 28, 28, 1)
    np.testing.assert_array_equal(drawn["labels"].argmax(-1), [3, 3, 7, 7])
    (tmp_path / "asked.json").write_text('[["3"], ["7"]]')
    same = _drawn(
        workdir, tmp_path / "y.npz", f"--labels_file={tmp_path / 'asked.json'}", "--num=2"
    )
    np.testing.assert_array_equal(same, drawn["images"])

    _draw(workdir, tmp_path / "folder", "--labels=3;7", "--num=2")
    table = (tmp_path / "folder" / "labels.csv").read_text().split()
    assert table == ["000000.png,3", "000001.png,3", "000002.png,7", "000003.png,7"]
    _draw(workdir, tmp_path / "strips.png", "--labels=3;7", "--num=2", "--interpolate=3")
    assert len(_pixels(tmp_path / "strips.png")) == 4 * 58 - 2
    _draw(workdir, tmp_path / "all.npz", "--num=1")  # the classes, when nothing is said
    np.testing.assert_array_equal(np.load(tmp_path / "all.npz")["labels"], np.eye(10))

    unknown = run("sample", f"--workdir={workdir}", f"--out={tmp_path / 'no.png'}", "--labels=77")
    assert unknown.status == 1 and "unknown label '77' (did you mean '7'?)" in unknown.err
    assert not (tmp_path / "no.png").exists()


def test_labels_asked_of_a_model_without_them(trained, tmp_path):
    refused = run("sample", f"--workdir={trained}", f"--out={tmp_path / 'x.png'}", "--labels=a")
    assert refused.status == 1 and "trained without labels" in refused.err


def test_truncation_of_a_model_without_intermediate_latents(trained, tmp_path):
    refused = run("sample", f"--workdir={trained}", f"--out={tmp_path / 'x.png'}", "--truncation=1")
    assert refused.status == 1
    assert "--truncation works on intermediate latents w and this model has none" in refused.err


def test_strips_begin_and_end_at_samples(trained, tmp_path):
    samples = _drawn(trained, tmp_path / "x.npz", "--num=4").astype(int)
    strips = _drawn(trained, tmp_path / "s.npz", "--num=2", "--interpolate=3").astype(int)
    strips = strips.reshape(2, 3, 8, 8, 3)
    # The path's ends are computed, so that a value may round the other way.
    assert np.abs(strips[:, 0] - samples[:2]).max() <= 1
    assert np.abs(strips[:, -1] - samples[2:]).max() <= 1


def test_the_seed_the_weights_and_the_step_can_be_chosen(trained, tmp_path):
    usual = _drawn(trained, tmp_path / "x.npz", "--num=3")
    np.testing.assert_array_equal(usual, _drawn(trained, tmp_path / "x.npz", "--num=3", "--seed=0"))
    for other in ("--seed=1", "--raw", "--step=3"):
        assert np.any(_drawn(trained, tmp_path / "x.npz", "--num=3", other) != usual), other


def test_samples_of_a_finished_training_are_those_of_its_last_grid(trained, tmp_path):
    _draw(trained, tmp_path / "grid.png", "--num=4")
    assert (tmp_path / "grid.png").read_bytes() == (
        trained / "samples" / "step_00000006.png"
    ).read_bytes()


# The commands as they stand, each in a process of its own.

FAKE_TENSORFLOW = """
import pathlib
pathlib.Path(__file__).with_name("imported").touch()
raise ImportError("nobody may need TensorFlow")
"""


@pytest.mark.slow
def test_the_readme_s_commands(tmp_path):
    (tmp_path / "modules" / "tensorflow").mkdir(parents=True)
    (tmp_path / "modules" / "tensorflow" / "__init__.py").write_text(FAKE_TENSORFLOW)
    home = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(tmp_path / "modules")}

    def command(script, flags, out):
        # Without --compilation_cache, for its default is tried, too.
        made = finish(start(script, *shlex.split(flags), devices=1, compiled=None, **home))
        assert made.status == 0, made.err
        assert any(line.endswith(out) for line in made.out.splitlines())
        assert "Traceback" not in made.err
        return made

    workdir = tmp_path / "run"
    tiny = "--image_size=16 --num_examples=64 --set=width=4 --batch_size=8 --steps=2"
    command("train", f"{tiny} --workdir={workdir}", "step_00000002.png")
    assert list((tmp_path / "cache" / "jaxgan" / "compiled").iterdir())
    before = tree(workdir)
    assert "0/2" not in command("train", f"{tiny} --workdir={workdir}", "step_00000002.png").err
    assert tree(workdir) == before

    out = f"--workdir={workdir} --out={tmp_path}"
    command("sample", f"{out}/grid.png --num=64", "grid.png")
    command("sample", f"{out}/strips.png --num=8 --interpolate=10", "strips.png")
    command("sample", f"{out}/samples.npz --num=10", "samples.npz")
    command("sample", f"{out}/folder/ --num=3", "folder")
    assert not (tmp_path / "modules" / "tensorflow" / "imported").exists()


@pytest.mark.slow
def test_a_recipe_trains(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    workdir = f"--workdir={tmp_path}/run"
    made = finish(
        start(
            "train",
            "--flagfile=experiments/recipes/anime_dcgan.cfg",
            f"--data_dir={pictures}",
            *("--image_size=16", "--set=width=4", "--batch_size=8", "--epochs=2", workdir),
            devices=1,
        )
    )
    assert made.status == 0, made.err
    assert "samples: " in made.out


# Evaluation.

FEW = ("--features=random", "--num_images=200", "--metrics=prdc")


def _best(lines):
    numbers = [line["metrics"] for line in lines]
    worth = [both["density"][0] * both["coverage"][0] for both in numbers]
    return lines[int(np.argmax(worth))]["step"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The workdir of a conditional training on digits, with three checkpoints."""
    workdir = tmp_path_factory.mktemp("digits") / "run"
    narrow = [f"--set={player}_widths=8" for player in ("generator", "discriminator")]
    made = run(
        "train",
        *("--model=cgan", "--dataset=glyphs", "--num_examples=120", "--batch_size=8"),
        *("--steps=6", "--checkpoint_every=2", "--num_samples=10", f"--workdir={workdir}"),
        *narrow,
    )
    assert made.status == 0, made.err
    return workdir


def test_an_evaluation_is_a_table_a_line_and_a_page(digits, tmp_path):
    made = run("evaluate", f"--workdir={digits}", *FEW, "--checkpoint=all")
    assert made.status == 0, made.err
    for step in (2, 4, 6):
        assert f"step {step}, 200 pictures against 120 of glyphs, features random" in made.out
    assert made.out.count("  coverage ") == 3 and made.out.count("noise floor\n") == 3
    assert len(re.findall(r"  precision +\S+ +\S+ to \S+ +\S+ +-\n", made.out)) == 3
    assert made.out.endswith(f"{digits / 'report.html'}\n")
    assert "<h1>cgan on glyphs</h1>" in (digits / "report.html").read_text()
    lines = files.read_json_lines(digits / "evaluation.jsonl")
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert lines[0]["metrics"].keys() == {"precision", "recall", "density", "coverage"}
    assert lines[0]["protocol"]["conditions"] == "the data's labels"

    best = _best(lines)
    made = run("evaluate", f"--workdir={digits}", *FEW, "--checkpoint=best", f"--against={digits}")
    assert made.status == 0, made.err
    assert f"step {best}, 200" in made.out and f"beside {digits}, step " in made.out
    assert made.out.count(": the same\n") == 4
    # Measured in a second way, a run still has a best step: that of the first, or of the one named.
    more = [f for f in FEW if "num_images" not in f] + ["--num_images=150"]
    made = run("evaluate", f"--workdir={digits}", *more, "--checkpoint=2")
    assert made.status == 0, made.err
    made = run("sample", f"--workdir={digits}", "--checkpoint=best", f"--out={tmp_path / 'x.png'}")
    assert made.status == 0, made.err
    made = run("evaluate", f"--workdir={digits}", *more, "--checkpoint=best")
    assert "step 2, 150 pictures" in made.out, made.err


def test_what_cannot_be_compared_is_refused_before_anything_is_drawn(digits, monkeypatch):
    assert run("evaluate", f"--workdir={digits}", *FEW).status == 0
    before = tree(digits)
    monkeypatch.setattr(Evaluator, "__call__", None)  # which draws
    other = ("--features=random", "--metrics=prdc", "--num_images=140", f"--against={digits}")
    refused = run("evaluate", f"--workdir={digits}", *other)
    assert refused.status == 1 and "num_generated 200 against 140" in refused.err
    assert tree(digits) == before


@pytest.mark.slow
def test_an_evaluation_reads_what_was_asked_for(digits, tmp_path):
    sizes = ("--dataset=glyphs", "--num_examples=100", "--epochs=1", "--batch_size=20")
    classifier = tmp_path / "x.npz"
    assert run("train_classifier", *sizes, f"--out={classifier}").status == 0
    (tmp_path / "asked.json").write_text('[["3"], ["7"]]')
    common = (
        f"--workdir={digits}",
        f"--features={classifier}",
        "--num_images=10",
        "--metrics=accuracy",
    )
    made = run("evaluate", *common, f"--labels_file={tmp_path / 'asked.json'}")
    assert made.status == 0, made.err
    assert "features classifier" in made.out and "accuracy" in made.out
    protocol = files.read_json_lines(digits / "evaluation.jsonl")[-1]["protocol"]
    assert protocol["conditions"] == "those of asked.json"
    assert "would have to change their class" not in made.out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--metrics=fiid"], "unknown metric 'fiid' (did you mean 'fid'"),
        (["--metrics=fid"], "give --features=inception, or ask for frechet"),
        (
            ["--metrics=kid", "--num_images=10"],
            "needs at least 1000 pictures on either side, and there are 120 real and 10",
        ),
        (["--metrics=accuracy"], "make one with jaxgan classify"),
        (["--checkpoint=5"], "has no step 5, but [2, 4, 6]"),
        (["--features=nowhere.pth"], "nowhere.pth"),
        (["--features=nowhere.npz"], "nowhere.npz"),
    ],
)
def test_an_evaluation_says_what_is_wrong_before_it_draws(
    digits, flags, words, monkeypatch, tmp_path
):
    features = [] if "--features" in "".join(flags) else ["--features=random"]
    refused = run("evaluate", f"--workdir={digits}", *features, *flags)
    assert refused.status == 1, refused.out
    assert words in refused.err and refused.err.count("\n") == 1


def test_findings_are_shown_where_there_are_too_few_pictures_for_any_metric(digits):
    (digits / "report.html").write_text("a good one")
    before = tree(digits)
    few = ("--features=random", "--num_images=10")
    made = run("evaluate", f"--workdir={digits}", *few)
    assert made.status == 0, made.err
    assert "note: prdc is not measured" in made.out and "updates were undone" in made.out
    assert "a report with some stays" in made.out and tree(digits) == before
    (digits / "report.html").unlink()
    made = run("evaluate", f"--workdir={digits}", *few)
    assert made.out.endswith("report.html\n") and "cgan" in (digits / "report.html").read_text()


@pytest.mark.slow
def test_a_training_that_evaluates_keeps_its_best(tmp_path):
    run_flags = ("--steps=6", "--keep=1", f"--workdir={tmp_path / 'run'}", "--num_examples=120")
    often = ("--evaluate_every=2", "--evaluate_images=120", "--features=random")
    refused = run("train", *TINY, *run_flags, *often, "--metrics=prdc,frechet")
    assert refused.status == 1 and "needs at least 961 pictures" in refused.err
    few = ("--evaluate_every=2", "--evaluate_images=10", "--features=random")
    refused = run("train", *TINY, *run_flags, *few)
    assert refused.status == 1 and "--evaluate_every has nothing to measure" in refused.err
    made = run("train", *TINY, *run_flags, *often, "--metrics=prdc")
    assert made.status == 0, made.err
    assert "run, evaluated at step 2:\n" in made.out and " good: 0 of 4 updates" in made.out
    assert "<h1>gan on shapes</h1>" in (tmp_path / "run" / "report.html").read_text()
    lines = files.read_json_lines(tmp_path / "run" / "evaluation.jsonl")
    best = _best(lines)
    kept = {p.name for p in (tmp_path / "run" / "checkpoints").iterdir() if p.name.isdecimal()}
    assert kept == {str(best), "6"}


def test_other_pictures_than_the_training_s_are_refused(pictures, tmp_path):
    workdir = tmp_path / "run"
    flags = _on(pictures, "--steps=1", f"--workdir={workdir}")
    assert run("train", *flags).status == 0
    (pictures / "00.png").unlink()
    refused = run("evaluate", f"--workdir={workdir}", f"--data_dir={pictures}", *FEW)
    assert refused.status == 1
    assert "are not those of the training" in refused.err


@pytest.mark.slow
def test_bfloat16_and_accumulated_gradients_are_settings_of_a_run(tmp_path):
    flags = (*TINY, "--batch_size=16", f"--workdir={tmp_path}/run")
    halves = ("--precision=bfloat16", "--gradient_accumulation=2")
    assert run("train", *flags, *halves, "--steps=2").status == 0
    assert run("train", *flags, *halves, "--steps=4").status == 0
    refused = run("train", *flags, "--steps=6")
    assert refused.status == 1
    assert "precision was bfloat16 and is now float32" in refused.err
    assert "gradient_accumulation was 2 and is now 1" in refused.err
    assert run("sample", f"--workdir={tmp_path}/run", f"--out={tmp_path}/x.png").status == 0
    unequal = run("train", *TINY, "--gradient_accumulation=3", f"--workdir={tmp_path}/other")
    assert unequal.status == 1
    assert "cannot be divided among 4 devices and 3 micro-batches" in unequal.err
    # A run from before there was a choice goes on with what it had.
    assert run("train", *TINY, "--steps=1", f"--workdir={tmp_path}/old").status == 0
    config = tmp_path / "old" / "config.json"
    settings = json.loads(config.read_text())
    del settings["precision"], settings["gradient_accumulation"], settings["crc"]
    config.write_text(json.dumps(settings))
    assert run("train", *TINY, "--steps=2", f"--workdir={tmp_path}/old").status == 0
    refused = run("train", *TINY, "--steps=3", f"--workdir={tmp_path}/old", "--precision=bfloat16")
    assert refused.status == 1


# Sweeps.


@pytest.mark.slow
def test_a_sweep_leaves_a_run_for_each_member(tmp_path):
    made = run(
        "train", *TINY, "--steps=2", "--sweep=seed=0..1", "--sweep=smoothing=0,0.1",
        f"--workdir={tmp_path}/run",
    )  # fmt: skip
    assert made.status == 0, made.err
    names = [f"seed={seed},smoothing={value}" for seed in (0, 1) for value in (0.0, 0.1)]
    assert [line.split()[0] for line in made.out.splitlines()[1:5]] == names
    assert (tmp_path / "run" / "sweep.png").exists()
    member = tmp_path / "run" / names[3]
    settings = json.loads((member / "config.json").read_text())
    assert (settings["seed"], settings["config"]["smoothing"]) == (1, 0.1)
    # It goes on, and draws, by itself.
    alone = ["--seed=1", "--set=smoothing=0.1", f"--workdir={member}"]
    assert run("train", *TINY, "--steps=3", *alone).status == 0
    assert run("sample", f"--workdir={member}", f"--out={tmp_path}/x.png").status == 0


@pytest.mark.parametrize(
    ("sweep", "said"),
    [
        ("latent_size=2,4", "latent_size cannot be swept"),
        ("learning_rat=1", "did you mean 'learning_rate'"),
        ("seed=3..1", "first..last"),
        ("learning_rate=1,1", "must name different values"),
        ("learning_rate", "must look like seed=0..7"),
    ],
)
def test_what_cannot_be_swept_is_named(sweep, said, tmp_path):
    refused = run("train", *TINY, f"--sweep={sweep}", f"--workdir={tmp_path}/run")
    assert refused.status == 1
    assert said in refused.err and len(refused.err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_the_devices_schedule_is_kept(tmp_path):
    first = ["train", *TINY, f"--workdir={tmp_path}/run"]
    assert run(*first, "--steps=2", "--schedule=device").status == 0
    settings = json.loads((tmp_path / "run" / "config.json").read_text())
    assert settings["schedule"] == "device"
    assert run(*first, "--steps=3").status == 0
    refused = run(*first, "--steps=4", "--schedule=host")
    assert refused.status == 1 and "schedule was device and is now host" in refused.err


def test_how_a_run_multiplies_is_kept(tmp_path):
    first = ["train", *TINY, f"--workdir={tmp_path}/run"]
    assert run(*first, "--steps=1", "--matmul_precision=highest", "--deterministic").status == 0
    settings = json.loads((tmp_path / "run" / "config.json").read_text())
    assert settings["matmul_precision"] == "highest" and settings["deterministic"] is True
    refused = run(*first, "--steps=2")
    assert refused.status == 1
    assert "matmul_precision was highest and is now default" in refused.err
    assert "deterministic was true and is now false" in refused.err


# The machine.


def test_a_cluster_is_joined_without_a_flag(tmp_path, monkeypatch):
    joined = []
    monkeypatch.setattr(processes, "initialize", lambda *where: joined.append(where))
    assert "process 0 of" not in run("train", *TINY, "--steps=0", f"--workdir={tmp_path}/a").out
    monkeypatch.setattr(processes, "cluster", lambda: "Slurm")
    told = run("train", *TINY, "--steps=0", f"--workdir={tmp_path}/b")
    assert joined == [(None, None, None, 120)]
    nothing = "--steps=0: nothing was trained, and nothing written"
    assert told.out == f"process 0 of 1 (Slurm)\n{nothing}\n"


def test_warnings_are_sentences(tmp_path):
    assert run("train", *TINY, "--steps=2", f"--workdir={tmp_path}/run").status == 0
    with (tmp_path / "run" / "metrics.jsonl").open("r+") as file:
        file.write("{ no JSON")
    told = finish(start("sample", f"--workdir={tmp_path}/run", f"--out={tmp_path}/x.png"))
    assert told.status == 0
    told = finish(start("train", *TINY, "--steps=3", f"--workdir={tmp_path}/run"))
    path = tmp_path / "run" / "metrics.jsonl"
    assert f"warning: {path}, line 1 is damaged (" in told.err and "): left out\n" in told.err
