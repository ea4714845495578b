"""Classifiers: their networks, their files, and the scripts that train and use them."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import torch_files
from commands import run
from conftest import STORED
from helpers import noise_images
from stored.evaluation import resnet_images

from jaxgan.errors import UsageError
from jaxgan.evaluation.distances.accuracy import hits
from jaxgan.evaluation.evaluator import in_batches, read_pictures
from jaxgan.evaluation.networks import classifier, random_features
from jaxgan.evaluation.networks.classifier import About
from jaxgan.evaluation.networks.fit import fit, shifted

SMALL = About("small", 8, 1, ("even", "odd"), "class", "digits", "print", 0.75)


def made_up(about, seed=0):
    """Variables for a classifier, its statistics too."""
    random = np.random.default_rng(seed)
    init = jax.eval_shape(
        lambda: classifier.module(about).init(
            jax.random.key(0),
            jax.numpy.zeros((1, about.size, about.size, about.channels)),
            train=False,
        )
    )
    return jax.tree.map(lambda x: random.uniform(0.1, 0.5, x.shape).astype(np.float32), init)


def pictures(about, count=5):
    shape = (count, about.size, about.size, about.channels)
    return np.random.default_rng(1).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(
    ("architecture", "size", "channels", "features"),
    [("small", 28, 1, 256), ("small", 32, 3, 256), ("resnet18", 64, 3, 512)],
)
def test_features_and_logits_have_their_shapes(architecture, size, channels, features):
    assert classifier.default_architecture(size) == architecture
    about = About(architecture, size, channels, tuple("abcde"), "tags")
    network = classifier.network(about, made_up(about))
    seen = jax.eval_shape(network.read, network.variables, pictures(about, 3))
    assert seen.features.shape == (3, features) and seen.logits.shape == (3, 5)
    assert (network.label_names, network.label_kind) == (tuple("abcde"), "tags")


@pytest.mark.parametrize("kind", ["classifier", "random"])
def test_no_device_rounds_the_products(kind):
    network = random_features.make()
    if kind == "classifier":
        network = classifier.network(SMALL, made_up(SMALL))
    products = str(jax.make_jaxpr(network.read)(network.variables, pictures(SMALL)))
    exact = "precision=(Precision.HIGHEST, Precision.HIGHEST)"
    assert products.count("precision=") == products.count(exact) > 0


def read_logits(network, images, batch_size=8):
    return read_pictures(network, in_batches(images, batch_size), len(images)).logits


def test_a_file_gives_back_every_bit(tmp_path):
    variables = made_up(SMALL)
    sha256 = classifier.save(tmp_path / "x.npz", SMALL, variables)
    about, restored = classifier.read_file(tmp_path / "x.npz")
    assert about == SMALL and list(tmp_path.iterdir()) == [tmp_path / "x.npz"]
    jax.tree.map(np.testing.assert_array_equal, restored, variables)
    network = classifier.load(tmp_path / "x.npz")
    assert (network.name, network.digest, network.resize) == ("classifier", sha256, "none")
    images = pictures(SMALL)
    before = read_logits(classifier.network(SMALL, variables), images)
    np.testing.assert_array_equal(read_logits(network, images), before)
    np.testing.assert_allclose(read_logits(network, images, batch_size=3), before, rtol=1e-5)
    assert classifier.save(tmp_path / "y.npz", SMALL, made_up(SMALL, seed=1)) != sha256


def rewrite(path, change):
    """Applies a change to the header and arrays of a classifier's file."""
    with np.load(path) as file:
        arrays = dict(file)
    header = json.loads(str(arrays.pop("about")))
    change(header, arrays)
    np.savez(path, about=np.array(json.dumps(header)), **arrays)


def test_damaged_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "x.npz"
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        classifier.load(path)
    path.write_text("no classifier")
    with pytest.raises(
        UsageError, match=r"x.npz is damaged or no classifier .*\(File is not a zip file\)"
    ):
        classifier.load(path)
    np.savez(path, images=np.zeros(3))
    with pytest.raises(UsageError, match="x.npz is damaged or no classifier"):
        classifier.load(path)

    classifier.save(path, SMALL, made_up(SMALL))
    rewrite(path, lambda header, arrays: arrays["params/Dense_1/bias"].fill(0))
    with pytest.raises(UsageError, match="is damaged: its weights have the SHA-256"):
        classifier.load(path)

    classifier.save(path, dataclasses.replace(SMALL, label_names=("one",) * 3), made_up(SMALL))
    with pytest.raises(UsageError, match=r"Dense_1/bias has the shape \(2,\) .* takes \(3,\)"):
        classifier.load(path)

    classifier.save(path, SMALL, made_up(SMALL))
    rewrite(path, lambda header, arrays: header.update(format=2))
    with pytest.raises(UsageError, match="written by another version"):
        classifier.load(path)
    with pytest.raises(UsageError, match=r"unknown architecture 'smal' \(did you mean 'small'"):
        classifier.module(dataclasses.replace(SMALL, architecture="smal"))


def test_pictures_of_another_size_are_refused():
    network = classifier.network(SMALL, made_up(SMALL))
    with pytest.raises(UsageError, match="reads pictures 8x8x1 and these are 9x8x1; use one that"):
        read_logits(network, np.zeros((2, 9, 8, 1), np.uint8))


@pytest.fixture(scope="module")
def stored():
    """PyTorch's numbers for made-up weights."""
    with np.load(STORED / "torch_resnet.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def state(stored):
    """The weights as PyTorch names them."""
    return torch_files.made_up(torch_files.shapes(stored["names"], stored["sides"]))


@pytest.fixture(scope="module")
def path(state, tmp_path_factory):
    """The weights in a file like that of the i-CLEVR exercise's evaluator."""
    path = tmp_path_factory.mktemp("evaluator") / "classifier_weight.pth"
    torch_files.save(path, state, "model")
    return path


def test_the_evaluator_computes_what_pytorchs_does(stored, path):
    about, variables = classifier.load_torch_resnet18(path, [f"tag {k}" for k in range(24)])
    network = classifier.network(about, variables)
    seen = jax.jit(network.read)(network.variables, resnet_images())
    np.testing.assert_allclose(seen.features, stored["features"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(seen.logits, stored["logits"], rtol=1e-4, atol=1e-4)


def test_an_evaluator_of_other_labels_is_refused(path):
    with pytest.raises(
        UsageError, match=r"fc.bias has the shape \(24,\) and the network takes \(3,\)"
    ):
        classifier.load_torch_resnet18(path, ("a", "b", "c"))


def test_random_features_depend_on_the_seed_alone():
    first, again, other = random_features.make(), random_features.make(0), random_features.make(1)
    assert first.digest == again.digest != other.digest
    assert first.digest.startswith("909dd238b0e53254")  # whatever the versions of NumPy and JAX
    for shape in [(2, 8, 8, 3), (2, 17, 10, 1)]:
        images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        seen = first.read(first.variables, images)
        assert seen.features.shape == (2, 960) and seen.logits is None
        assert np.isfinite(seen.features).all() and (seen.features[0] != seen.features[1]).any()
    with pytest.raises(UsageError, match="these have 2 channels"):
        first.read(first.variables, np.zeros((1, 8, 8, 2), np.uint8))
    with pytest.raises(UsageError, match="must be from 0 to .*, not -1"):
        random_features.make(-1)


# Training, and the script.


def test_training_learns_what_can_be_learned():
    settings = {"epochs": 20, "batch_size": 16, "learning_rate": 2e-3, "shift": 1}
    dataset = noise_images(32, size=8, channels=1, classes=2)
    dark = dataset.labels.argmax(-1) == 0
    dataset.images[dark] //= 4
    about, variables = fit(dataset, **settings)
    assert about == About("small", 8, 1, ("class 0", "class 1"), "class", "noise", "noise")
    logits = read_logits(classifier.network(about, variables), dataset.images)
    assert hits(logits, dataset.labels).accuracy() > 0.9
    assert hits(logits, dataset.labels[:, ::-1]).accuracy() < 0.1
    again = fit(dataset, **settings)[1]
    jax.tree.map(np.testing.assert_array_equal, variables, again)


def test_pictures_are_shifted_by_whole_pixels():
    image = np.zeros((1, 9, 9, 1), np.uint8)
    image[0, 4, 4] = 1
    images = np.repeat(image, 200, 0)
    moved = np.array(shifted(images, jax.random.split(jax.random.key(0), 200), 2))
    places = {tuple(where[1:3]) for where in np.argwhere(moved)}
    assert moved.sum() == 200
    assert places == {(i, j) for i in range(2, 7) for j in range(2, 7)}


TINY = ("--image_size=8", "--num_examples=40", "--epochs=1", "--batch_size=8")


@pytest.mark.parametrize(("dataset", "kind"), [("shapes", "tags"), ("glyphs", "class")])
def test_the_script_trains_and_stores(dataset, kind, tmp_path):
    out = tmp_path / "new" / "x.npz"
    made = run("train_classifier", f"--dataset={dataset}", *TINY, f"--out={out}")
    assert made.status == 0, made.err
    about, _ = classifier.read_file(out)
    assert (about.label_kind, about.data, about.architecture) == (kind, dataset, "small")
    assert made.out.endswith(f"held-out pictures read right: {out}\n")
    assert made.out.startswith(f"{about.accuracy:.2%} of ")


def test_the_script_stores_what_pytorch_trained(state, path, tmp_path):
    out = tmp_path / "x.npz"
    made = run(
        "train_classifier",
        "--dataset=shapes",
        *("--image_size=8", "--num_examples=40"),
        f"--torch_weights={path}",
        f"--out={out}",
    )
    assert made.status == 0, made.err
    about, variables = classifier.read_file(out)
    assert about.architecture == "resnet18" and about.data == "shapes"
    kernel = state["conv1.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(variables["params"]["conv1"]["kernel"], kernel)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--out=x.pth"], "--out=x.pth must be a FILE.npz"),
        ([f"--out={__file__}/x.npz"], "x.npz cannot be written: "),
        (["--out=x.npz", "--epochs=0.1"], "--epochs=0.1 of 40 pictures must be at least one batch"),
        (["--out=x.npz", "--batch_size=9"], "cannot be divided among 4 devices"),
        (["--out=x.npz", "--architecture=resnet"], "unknown architecture 'resnet'"),
        (["--out=x.npz", "--torch_weights=none.pth"], "none.pth cannot be read"),
    ],
)
def test_the_script_says_what_is_wrong(flags, words):
    refused = run("train_classifier", "--dataset=shapes", *TINY, *flags)
    assert refused.status == 1 and words in refused.err, refused.err
