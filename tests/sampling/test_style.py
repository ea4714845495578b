"""Between latents and images: truncation, mixing, paths, projection, and what py does."""

import dataclasses
import pathlib
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import run
from helpers import SEED, TOY, noise_images, small_config
from PIL import Image

from jaxgan.core import Context, Plan, example_keys, init_state, normalize
from jaxgan.data import load
from jaxgan.errors import UsageError
from jaxgan.evaluation.evaluator import Evaluator, read_reference
from jaxgan.evaluation.networks import random_features
from jaxgan.evaluation.networks.network import features_of
from jaxgan.models import stylegan2
from jaxgan.runs.train import Options, prepare
from jaxgan.sampling import given, pictures, project, style
from jaxgan.sampling.draw import draw, draw_latents
from jaxgan.sampling.paths import lerp, walk
from jaxgan.stages import as_stages
from jaxgan.training.loop import init
from jaxgan.training.record import Record, Schedule

DATA = noise_images(8, size=8, classes=2)
CONFIG = dataclasses.replace(small_config("stylegan2"), latent_size=4)
GAN = stylegan2.make(DATA.spec, CONFIG, Plan(4, 1))
KEYS = example_keys(jax.random.key(SEED), jnp.arange(3))
LABEL = np.eye(2, dtype=np.float32)[[0, 1, 1]]


def _variables():
    """Drawn, so that noise counts and the average is not zero; quiet, so that no pixel is cut."""
    random = np.random.default_rng(0)
    shapes = jax.eval_shape(GAN.init, jax.random.key(0))["generator"]

    def draw(path, x):
        name = jax.tree_util.keystr(path)
        scale = 100 if "dense" in name else 0.1 if "ToRGB" in name or "bias" in name else 1
        return (scale * random.normal(size=x.shape)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


VARIABLES = _variables()
LATENT = draw_latents(GAN, 3, seed=5)
W = style.map_latents(GAN, VARIABLES, LATENT, LABEL)


def _image(gan, label=LABEL):
    context = Context(jnp.int32(0), KEYS, {}, train=False)
    return gan.generate(VARIABLES, {"label": label}, context)[0].image


def test_psi_1_is_the_plain_image_and_psi_0_the_averages():
    plain = _image(GAN)
    np.testing.assert_allclose(np.clip(_image(style.truncated(GAN, 1.0)), -1, 1), plain, atol=1e-5)
    average = jnp.broadcast_to(GAN.style.average(VARIABLES), W.shape)
    context = Context(jnp.int32(0), KEYS, {}, train=False)
    expected = GAN.style.synthesize(VARIABLES, average, context)
    np.testing.assert_allclose(_image(style.truncated(GAN, 0.0)), expected, atol=1e-5)
    half = _image(style.truncated(GAN, 0.5))
    assert np.abs(half - expected).max() > 1e-3 and np.abs(half - plain).max() > 1e-3


def test_a_truncated_gan_is_drawn_as_any():
    full, less = (
        draw(gan, VARIABLES, 3, label=LABEL, seed=5) for gan in (GAN, style.truncated(GAN, 1.0))
    )
    assert np.abs(full.astype(int) - less).max() <= 1
    with pytest.raises(UsageError, match="give some"):
        draw(style.truncated(GAN, 0.5), VARIABLES, 3)


def test_what_needs_w_says_so_where_there_is_none():
    for needs in (lambda: style.truncated(TOY, 0.7), lambda: style.from_w(TOY)):
        with pytest.raises(UsageError, match="has none; leave it out, .*model='stylegan2'"):
            needs()
    with pytest.raises(UsageError, match="^truncation works on intermediate latents"):
        style.style_of(TOY, "--truncation")


def test_pictures_of_one_w_are_alike_wherever_they_are_drawn():
    w = np.concatenate([W, W[::-1]])
    images = draw(style.from_w(GAN), VARIABLES, 6, w=w, batch_size=4)
    np.testing.assert_array_equal(images[3:], images[:3][::-1])
    assert not np.array_equal(images[0], images[1])


def test_truncated_w():
    half = style.map_latents(GAN, VARIABLES, LATENT, LABEL, psi=0.5)
    average = VARIABLES["w_avg"]["mapping"]["w"]
    np.testing.assert_allclose(half, (W + average) / 2, rtol=1e-4, atol=1e-5)


def test_a_path_in_w_is_straight():
    path = walk(lerp, W[:2], W[1:], 5)
    assert path.shape == (2, 5, *W.shape[1:]) and path.dtype == W.dtype
    np.testing.assert_array_equal(path[:, 0], W[:2])
    np.testing.assert_array_equal(path[:, -1], W[1:])
    np.testing.assert_allclose(path[:, 1], W[:2] + (W[1:] - W[:2]) / 4, rtol=1e-4, atol=1e-5)


def test_a_mixing_grid_has_its_sources_at_the_edges():
    rows, columns = W[:2], W
    picture = style.mixing_grid(GAN, VARIABLES, rows, columns, 2)
    assert picture.shape == (3 * 66 - 2, 4 * 66 - 2, 3)  # 8 pixels are enlarged to 64
    cells = np.pad(picture, [(0, 2), (0, 2), (0, 0)]).reshape(3, 66, 4, 66, 3).swapaxes(1, 2)
    cells = cells[:, :, :64:8, :64:8]
    sources = draw(style.from_w(GAN), VARIABLES, 3, w=W)
    assert not cells[0, 0].any()
    np.testing.assert_array_equal(cells[0, 1:], sources)
    np.testing.assert_array_equal(cells[1:, 0], sources[:2])
    # Mixed with itself each is itself.
    np.testing.assert_array_equal([cells[1, 1], cells[2, 2]], sources[:2])
    mixed = np.concatenate([W[:1, :2], W[2:, 2:]], 1)
    (expected,) = draw(style.from_w(GAN), VARIABLES, 1, w=mixed)
    np.testing.assert_array_equal(cells[1, 3], expected)
    for crossover in (0, 4):
        with pytest.raises(UsageError, match="has 4 layers: choose from 1 to 3"):
            style.mixing_grid(GAN, VARIABLES, rows, columns, crossover)


# Projection


@pytest.mark.parametrize(
    "features", [None, features_of(random_features.make())], ids=["pixels", "features"]
)
def test_a_picture_of_the_model_is_found(features):
    start, wanted = style.map_latents(GAN, VARIABLES, LATENT[:2], LABEL[:2], psi=0.0), W[:1]
    (target,) = draw(style.from_w(GAN), VARIABLES, 1, w=wanted)
    found = project.project(GAN, VARIABLES, target, start[0], features=features, steps=60, stages=3)
    assert found.pictures.shape == (3, 8, 8, 3) and found.pictures.dtype == np.uint8
    (average,) = draw(style.from_w(GAN), VARIABLES, 1, w=start[:1])
    np.testing.assert_array_equal(found.pictures[0], average)
    (last,) = draw(style.from_w(GAN), VARIABLES, 1, w=found.w[None])
    np.testing.assert_array_equal(found.pictures[-1], last)
    before, after = (
        float(project.distance(normalize(picture)[None], normalize(target)[None], features))
        for picture in (average, last)
    )
    assert after < before / 3
    np.testing.assert_allclose(found.distance, after, atol=1e-3)


def test_a_picture_to_project_becomes_one_of_the_models(tmp_path):
    path = tmp_path / "x.png"
    Image.new("RGB", (30, 20), (200, 100, 0)).save(path)
    image, change = given.read_picture(path, 8, 3)
    assert image.shape == (8, 8, 3) and (image == [200, 100, 0]).all()
    assert change == f"{path} has 30x20 pixels; its central square is resized to 8x8"
    assert given.read_picture(path, 8, 1)[0].shape == (8, 8, 1)
    Image.fromarray(image).save(path)
    same, change = given.read_picture(path, 8, 3)
    np.testing.assert_array_equal(same, image)
    assert not change
    path.write_text("no picture")
    with pytest.raises(UsageError, match="x.png is not a picture"):
        given.read_picture(path, 8, 3)
    with pytest.raises(UsageError, match="y.png cannot be read: No such file"):
        given.read_picture(tmp_path / "y.png", 8, 3)


# The script


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """The workdir of a StyleGAN2 that has learned nothing: its updates would compile for long."""
    workdir = tmp_path_factory.mktemp("style") / "run"
    shapes = load("shapes", image_size=8, num_examples=16)
    config = dataclasses.replace(CONFIG, conditional=False)
    prepared = prepare("stylegan2", shapes, Options(batch_size=8), workdir=workdir, config=config)
    state = init(prepared.stages[0].gan, SEED)
    with Record(prepared.stages, workdir, Schedule(), SEED, prepared.settings) as record:
        record.begin(0)
        record.write(1, state.replace(step=state.step + 1), last=True)
    return workdir


def _run(workdir, out, *arguments):
    return run("sample", f"--workdir={workdir}", f"--out={out}", *arguments)


def _pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_the_script_mixes_walks_and_projects(workdir, tmp_path):
    made = _run(workdir, tmp_path / "mixed.png", "--mix=2", "--truncation=0.7")
    assert made.status == 0, made.err
    assert _pixels(tmp_path / "mixed.png").shape == (3 * 66 - 2, 3 * 66 - 2, 3)

    made = _run(workdir, tmp_path / "walk.gif", "--num=2", "--interpolate=3")
    assert made.status == 0, made.err
    with Image.open(tmp_path / "walk.gif") as image:
        assert image.info["loop"] == 0 and 1 < image.n_frames <= 6  # equal ones are joined

    made = _run(workdir, tmp_path / "strips.png", "--num=2", "--interpolate=3")
    assert made.status == 0, made.err
    assert _pixels(tmp_path / "strips.png").shape == (2 * 66 - 2, 3 * 66 - 2, 3)

    Image.new("RGB", (9, 9), (200, 100, 0)).save(tmp_path / "x.png")
    flags = (f"--project={tmp_path / 'x.png'}", "--project_steps=20", "--features=random")
    made = _run(workdir, tmp_path / "found.png", *flags)
    assert made.status == 0, made.err
    assert "x.png has 9x9 pixels; it is resized to 8x8\n" in made.out
    assert "distance by pixels and features (random): " in made.out
    strip = _pixels(tmp_path / "found.png")
    assert strip.shape == (64, 7 * 66 - 2, 3)
    assert (strip[:, :64] == [200, 100, 0]).all()

    # The w that was found is where the strip ends, and where others begin.
    w = tmp_path / "found.npz"
    assert f"w: {w}\n" in made.out
    last = strip[:, -64:]
    assert _run(workdir, tmp_path / "again.png", f"--w={w}").status == 0
    np.testing.assert_array_equal(_pixels(tmp_path / "again.png"), last)
    made = _run(workdir, tmp_path / "strips.png", f"--w={w},{w}", "--num=1", "--interpolate=3")
    assert made.status == 0, made.err
    np.testing.assert_array_equal(_pixels(tmp_path / "strips.png")[:, 66:130], last)
    made = _run(workdir, tmp_path / "mixed.png", f"--w={w}", "--mix=1")
    assert made.status == 0, made.err
    np.testing.assert_array_equal(_pixels(tmp_path / "mixed.png")[66:, :64], last)
    plain = ("--num=2", "--seed=1")
    assert _run(workdir, tmp_path / "two.npz", *plain, f"--w={w}").status == 0
    assert _run(workdir, tmp_path / "own.npz", *plain).status == 0
    with np.load(tmp_path / "two.npz") as two, np.load(tmp_path / "own.npz") as own:
        assert (two["images"][0] != own["images"][0]).any()


def test_a_truncation_may_end_at_a_layer():
    average = np.asarray(GAN.style.average(VARIABLES))
    w = style.map_latents(GAN, VARIABLES, LATENT, LABEL, psi=0.5, cutoff=2)
    np.testing.assert_allclose(w[:, :2], average + 0.5 * (W[:, :2] - average), rtol=1e-5)
    np.testing.assert_allclose(w[:, 2:], W[:, 2:], rtol=1e-5)
    whole = _image(style.truncated(GAN, 0.5))
    all_layers = _image(style.truncated(GAN, 0.5, W.shape[1]))
    np.testing.assert_allclose(all_layers, whole, atol=1e-5)
    assert np.abs(_image(style.truncated(GAN, 0.5, 1)) - whole).max() > 1e-3


@pytest.mark.slow
def test_an_evaluation_draws_with_a_truncation():
    network, labels = random_features.make(), np.eye(2, dtype=np.float32)[[0, 1, 1, 0]]
    reference = read_reference(network, DATA)
    evaluator = Evaluator(
        as_stages(GAN, 8, 4), network, DATA, reference, (), 4, labels, truncation=0.5
    )
    state = init_state(GAN, jax.random.key(0)).replace(ema=VARIABLES)
    evaluation = evaluator(state)
    expected = draw(style.truncated(GAN, 0.5), VARIABLES, 4, label=labels)
    np.testing.assert_array_equal(evaluation.images, expected)
    assert evaluation.entry.protocol.truncation == 0.5


def test_a_walk_may_be_a_film(workdir, tmp_path, monkeypatch):
    frames = []

    def write_frames(path, size, fps, macro_block_size):
        while frames.append((yield)) is None:
            pathlib.Path(path).write_text(f"{size} {fps} {macro_block_size}")

    package = types.SimpleNamespace(write_frames=write_frames)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", package)
    made = _run(workdir, tmp_path / "walk.mp4", "--num=2", "--interpolate=3")
    assert made.status == 0, made.err
    assert (tmp_path / "walk.mp4").read_text() == "(64, 64) 20 2"
    assert [frame.shape for frame in frames] == [(64, 64, 3)] * 6
    pictures.save_animation(tmp_path / "odd.mp4", np.zeros((1, 65, 67, 1), np.uint8))
    assert frames[-1].shape == (66, 68, 3)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    refused = _run(workdir, tmp_path / "walk.mp4", "--num=2", "--interpolate=3")
    assert refused.status == 1 and "pip install imageio-ffmpeg" in refused.err


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--out=x.gif",), "say by --interpolate"),
        (("--mix=2", "--project=x.png"), "--mix and --project ask for different pictures"),
        (("--mix=2", "--out=x.npz"), "--out=x.npz must be FILE.png"),
        (("--mix=2", "--mix_layers=9"), "choose from 1 to 3"),
        (("--mix_layers=2",), "says how --mix mixes"),
        (("--project=nowhere.png",), "nowhere.png cannot be read"),
        (("--truncation_cutoff=2",), "says what --truncation changes"),
        (("--w=nowhere.npz",), "--w=nowhere.npz cannot be read"),
    ],
)
def test_flags_that_do_not_go_together(workdir, arguments, error):
    refused = run("sample", f"--workdir={workdir}", *arguments)
    assert refused.status == 1 and error in refused.err
