"""The models' networks against the same ones in PyTorch, with the same weights."""

import dataclasses
import functools
import re

import jax
import numpy as np
import pytest
from conftest import ROOT
from flax.traverse_util import flatten_dict

from jaxgan.core import AXIS, Context, Plan
from jaxgan.data import DataSpec
from jaxgan.models import MODELS

torch = pytest.importorskip("torch")

COURSE = {"width": 4, "kernel": 5, "linear_stem": True, "bias": True}
CASES = {
    "gan": ("gan", {}, 8, 1),
    "dcgan": ("dcgan", {"width": 4}, 16, 3),
    "dcgan of the courses": ("dcgan", COURSE, 16, 3),
    "dcgan at 28 px": ("dcgan", COURSE, 28, 1),
    "wgan_gp": ("wgan_gp", {"width": 4}, 16, 3),
    "wgan_gp with labels": ("wgan_gp", {"width": 4}, 16, 3, 5),
    "improved": ("improved", {"width": 4, "group": 4}, 28, 1, 3),
    "sagan": ("sagan", {"width": 8}, 16, 3, 3),
}
CASES = {name: case if len(case) == 5 else (*case, 0) for name, case in CASES.items()}


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(
    ("model", "fields", "size", "channels", "labels"), CASES.values(), ids=CASES
)
def test_networks_compute_what_pytorchs_do(
    model, fields, size, channels, labels, train, monkeypatch
):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import torch_models

    config = dataclasses.replace(MODELS[model].Config(), **fields)
    names = tuple(map(str, range(labels)))
    spec = DataSpec("noise", size, channels, "class" if labels else None, names)
    gan = MODELS[model].make(spec, config, Plan(8, 1))
    rng = np.random.default_rng(0)
    # Drawn, not initialised, so that no bias or running mean is zero; running variances are > 0.
    variables = jax.tree.map(
        lambda x: rng.uniform(0, 0.2, x.shape).astype(np.float32) - 0.1 * (x.ndim > 1),
        jax.eval_shape(gan.init, jax.random.key(0)),
    )
    networks = torch_models.NETWORKS[model](config, size, channels, labels)
    for player, network in zip(("generator", "discriminator"), networks, strict=True):
        network.train(train)
        if model == "sagan":
            variables[player] = _with_unit_vectors(variables[player])
            torch_models.move_vectors(network, False)
            _carry_by_path(variables[player], network)
        else:
            _carry(variables[player], network)
    context = Context(0, None, {}, train)
    label = np.eye(labels, dtype=np.float32)[np.arange(8) % labels] if labels else None
    torch_label = None if label is None else torch.tensor(label)

    latent = rng.normal(size=(8, config.latent_size)).astype(np.float32)
    image = rng.uniform(-1, 1, (8, size, size, channels)).astype(np.float32)

    @jax.jit
    @functools.partial(jax.vmap, axis_name=AXIS)
    def compute(latent, image):
        def score(image):
            return gan.score(variables["discriminator"], image, label, context)[0].source

        gradient = jax.grad(lambda x: (score(x) ** 2).sum())(image)
        fake, _ = gan.generate(variables["generator"], {"latent": latent, "label": label}, context)
        return fake.image, score(image), gradient

    fake, source, gradient = (x[0] for x in compute(latent[None], image[None]))
    torch_image = torch.tensor(image).permute(0, 3, 1, 2).requires_grad_()
    torch_source = networks.discriminator(torch_image, torch_label)
    if model == "improved":
        logits = torch_source[0]
        torch_source = torch.logsumexp(logits[:, :-1], 1) - logits[:, -1]
    (torch_gradient,) = torch.autograd.grad((torch_source**2).sum(), torch_image)
    torch_fake = networks.generator(torch.tensor(latent), torch_label).detach()

    assert sum(x.size for v in variables.values() for x in jax.tree.leaves(v["params"])) == sum(
        p.numel() for network in networks for p in network.parameters()
    )
    for actual, expected in (
        (fake, torch_fake.permute(0, 2, 3, 1)),
        (source, torch_source.detach()),
        (gradient, torch_gradient.permute(0, 2, 3, 1)),
    ):
        scale = expected.abs().max().item()
        np.testing.assert_allclose(actual / scale, expected / scale, rtol=0, atol=1e-4)


# What turns the path of a PyTorch weight of StyleGAN2 into that of Flax's, in order.
_STYLE_PATHS = {
    r"^mapping\.(\d)": r"mapping.dense_\1",
    r"^start": "synthesis.start",
    r"^convs\.(\d)\.weight": r"synthesis.StyledConv_\1.ModulatedConv_0.kernel",
    r"^convs\.(\d)\.affine": r"synthesis.StyledConv_\1.ModulatedConv_0.affine",
    r"^convs\.(\d)\.strength": r"synthesis.StyledConv_\1.Noise_0.strength",
    r"^convs\.(\d)": r"synthesis.StyledConv_\1",
    r"^colours\.(\d)": r"synthesis.ToRGB_\1",
    r"^colours": "EqualizedConv_0",
    r"^blocks\.0\.first": "EqualizedConv_1",
    r"^blocks\.0\.second": "EqualizedConv_2",
    r"^blocks\.0\.skip": "EqualizedConv_3",
    r"^blocks\.1\.first": "EqualizedConv_4",
    r"^blocks\.1\.second": "EqualizedConv_5",
    r"^blocks\.1\.skip": "EqualizedConv_6",
    r"^last": "EqualizedConv_7",
    r"^dense": "EqualizedDense_0",
    r"^out": "EqualizedDense_1",
    r"weight$": "kernel",
}


def test_stylegan2_computes_what_pytorchs_does(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import torch_style

    from jaxgan.layers.noise import pixel_noise
    from jaxgan.models.common import fold

    config = MODELS["stylegan2"].Config(
        latent_size=5, mapping_width=6, channel_base=64, max_width=8, group=2
    )
    gan = MODELS["stylegan2"].make(DataSpec("noise", 16, 3, None, ()), config, Plan(4, 1))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda x: rng.normal(size=x.shape).astype(np.float32),
        jax.eval_shape(gan.init, jax.random.key(0)),
    )
    g, d = torch_style.stylegan2(config, 16, 3)
    for player, network in (("generator", g), ("discriminator", d)):
        _carry_style(variables[player]["params"], network)
    keys = jax.random.split(jax.random.key(0), 4)
    context = Context(0, keys, {}, train=False)
    latent = rng.normal(size=(4, 5)).astype(np.float32)
    w = gan.style.w(variables["generator"], latent, None)
    fake = gan.style.synthesise(variables["generator"], w, context)
    image = rng.uniform(-1, 1, (4, 16, 16, 3)).astype(np.float32)
    source = gan.score(variables["discriminator"], image, None, context)[0].source

    def by_channel(x):
        return torch.tensor(np.asarray(x)).permute(0, 3, 1, 2)

    noise = [pixel_noise(fold(keys, i), s, s) for i, s in enumerate((4, 8, 8, 16, 16))]
    with torch.no_grad():
        torch_fake = g.synthesise(g.w(torch.tensor(latent)), [by_channel(x) for x in noise])
        torch_source = d(by_channel(image))
    for ours, theirs in ((fake, torch_fake.permute(0, 2, 3, 1)), (source, torch_source)):
        scale = theirs.abs().max().item()
        np.testing.assert_allclose(ours / scale, theirs / scale, rtol=0, atol=1e-4)


def _carry_style(params, network):
    arrays, state = flatten_dict(params, sep="."), {}
    for name in network.state_dict():
        path = name
        for old, new in _STYLE_PATHS.items():
            path = re.sub(old, new, path)
        if name == "average":
            state[name] = network.average
            continue
        x = arrays.pop(path)
        if path == "EqualizedDense_0.kernel":  # features [H, W, C] here and [C, H, W] there
            x = x.reshape(4, 4, 8, -1).transpose(2, 0, 1, 3).reshape(x.shape)
        axes = {4: (3, 2, 0, 1), 3: (2, 0, 1), 2: (1, 0)}.get(x.ndim)
        state[name] = torch.tensor(np.array(np.transpose(x, axes)))
    assert not arrays
    network.load_state_dict(state)


_NAMES = {
    "Linear": "Dense",
    "Conv2d": "Conv",
    "ConvTranspose2d": "ConvTranspose",
    "BatchNorm1d": "BatchNorm",
    "BatchNorm2d": "BatchNorm",
}
# The axes of a kernel as PyTorch orders them.
_AXES = {"Dense": (1, 0), "Conv": (3, 2, 0, 1), "ConvTranspose": (3, 2, 0, 1)}


def _carry(variables, network):
    """Copies the variables of a Flax module into a PyTorch module of the same layers."""
    layers = _layers(network)
    variables = _stem_by_channels(variables, layers)
    params, stats = variables["params"], variables.get("batch_stats", {})
    if "MinibatchDiscrimination_0" in params:
        params = _features_by_channels(params, network)
    seen = dict.fromkeys(_AXES, 0) | {"BatchNorm": 0}
    for layer in layers:
        kind = _NAMES.get(type(layer).__name__)
        if kind is None:
            continue
        name, seen[kind] = f"{kind}_{seen[kind]}", seen[kind] + 1
        arrays = dict(params[name])
        if kind == "BatchNorm":
            arrays["weight"] = arrays.pop("scale")
            arrays |= {f"running_{n}": x for n, x in stats[name].items()}
            arrays["num_batches_tracked"] = 0
        else:
            arrays["weight"] = np.transpose(arrays.pop("kernel"), _AXES[kind])
        layer.load_state_dict({n: torch.tensor(np.array(x)) for n, x in arrays.items()})


def _layers(network):
    """In the order in which the Flax module makes them."""
    if hasattr(network, "embed"):
        return [*network.embed, *network.body]
    if hasattr(network, "convolutions"):
        return [*network.convolutions, network.project]
    return list(getattr(network, "body", network))


def _stem_by_channels(variables, layers):
    """Reorders the features of a linear stem from [H, W, C] to [C, H, W]."""
    kinds = [type(layer).__name__ for layer in layers]
    if "Unflatten" not in kinds or "Linear" not in kinds[: kinds.index("Unflatten")]:
        return variables
    before = kinds[: kinds.index("Unflatten")]
    channels, height, width = layers[len(before)].unflattened_size
    stem = [f"Dense_{before.count('Linear') - 1}"]
    stem += ["BatchNorm_0"] if "BatchNorm1d" in before else []

    def reorder(x):
        x = np.reshape(x, (*x.shape[:-1], height, width, channels))
        return np.moveaxis(x, -1, -3).reshape(*x.shape[:-3], -1)

    return {
        collection: {n: jax.tree.map(reorder, t) if n in stem else t for n, t in tree.items()}
        for collection, tree in variables.items()
    }


def _features_by_channels(params, network):
    """Carries minibatch discrimination, and reorders what reads features [13, 13, 2]."""

    def reorder(x):
        return np.moveaxis(x[:338].reshape(13, 13, 2, -1), 2, 0).reshape(338, -1)

    kernel = reorder(params["MinibatchDiscrimination_0"]["kernel"])
    network.kernel.load_state_dict({"weight": torch.tensor(kernel.T.copy())})
    last = params["Dense_0"]
    mixed = np.concatenate([reorder(last["kernel"]), last["kernel"][338:]])
    return {**params, "Dense_0": {**last, "kernel": mixed}}


# SAGAN's modules are nested: what turns the path of a PyTorch weight into that of Flax's, in order.
_PATHS = {
    "norms.": "ConditionalBatchNorm_",
    ".norm.running_": ".",
    "norm.running_": "BatchNorm_0.",
    "norm.weight": "BatchNorm_0.scale",
    "norm.bias": "BatchNorm_0.bias",
    ".parametrizations.weight.original": ".kernel",
    ".parametrizations.weight.0._": ".",
    ".weight": "",
    "first.": "SpectralConv_0.",
    "second.": "SpectralConv_1.",
    "skip.": "SpectralConv_2.",
    "last.": "SpectralConv_0.",
    "linear.": "SpectralDense_0.",
    "projection.": "Projection_0.",
    "attention.": "attention_8.",
}


def _with_unit_vectors(variables):
    """Spectral vectors with which no drawn kernel is divided by something near zero."""

    def vectors(params, old):
        if "kernel" not in params:
            return {name: vectors(params[name], x) for name, x in old.items()}
        u = old["u"] / np.linalg.norm(old["u"])
        v = params["kernel"].reshape(-1, len(u)) @ u
        return {"u": u, "v": v / np.linalg.norm(v)}

    return {**variables, "spectral": vectors(variables["params"], variables["spectral"])}


def _carry_by_path(variables, network):
    """Copies the variables of a SAGAN's player."""
    arrays = {}
    for tree in variables.values():
        arrays |= flatten_dict(tree, sep=".")
    shapes = {path: np.shape(x) for path, x in arrays.items()}
    generator = "Up_0" in variables["params"]
    if generator:  # its linear layer's features are [H, W, C] here and [C, H, W] there
        for path in ("SpectralDense_0.kernel", "SpectralDense_0.bias", "SpectralDense_0.u"):
            x = np.reshape(arrays[path], (*shapes[path][:-1], 4, 4, -1))
            arrays[path] = np.moveaxis(x, -1, -3).reshape(shapes[path])
    state = {}
    for name in network.state_dict():
        path = name.replace("blocks.", "Up_" if generator else "Down_")
        for old, new in _PATHS.items():
            path = path.replace(old, new)
        if path.endswith("num_batches_tracked"):
            state[name] = torch.tensor(0)
            continue
        x = arrays.pop(path)
        if path.endswith(".v"):
            *positions, inputs, _ = shapes[path[:-1] + "kernel"]
            x = np.moveaxis(np.reshape(x, (*positions, inputs)), -1, 0).reshape(-1)
        x = np.transpose(x, (3, 2, 0, 1) if x.ndim == 4 else None)
        state[name] = torch.tensor(np.array(x))
    assert not arrays
    network.load_state_dict(state)
