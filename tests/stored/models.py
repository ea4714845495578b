"""PyTorch's numbers for the models and optimizers, and the inputs they belong to.

Tests draw the inputs anew. Arrays are laid out as in this library: images [B, H, W, C].
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxgan.core import Gan, Plan, PyTree, example_keys
from jaxgan.data import DataSpec
from jaxgan.layers.style import pixel_noise
from jaxgan.models import improved_mlp, r3gan, stylegan2
from jaxgan.models.common import fold, normal_latents

Arrays = Mapping[str, np.ndarray]
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
BATCH, SIZE = 4, 16
SPEC = DataSpec("data", SIZE, 3, "class", ("a", "b", "c"))
PATH_MEAN = 0.7


class Inputs(NamedTuple):
    """A small model, and all that it gets; no bias and no strength is zero."""

    gan: Gan
    variables: PyTree
    latent: np.ndarray  # [BATCH, Z]
    image: np.ndarray  # [BATCH, SIZE, SIZE, 3]
    label: np.ndarray  # [BATCH, 3]
    keys: jax.Array  # [BATCH]


def _inputs(gan, scale):
    random = np.random.default_rng(0)

    def draw(path, x):
        return random.normal(scale=scale(path, x), size=x.shape).astype(np.float32)

    shapes = jax.eval_shape(gan.init, jax.random.key(0))
    variables = jax.tree_util.tree_map_with_path(draw, shapes)
    latent = random.normal(
        size=jax.eval_shape(gan.latent, jax.random.split(jax.random.key(0), BATCH)).shape
    )
    image = random.uniform(-1, 1, (BATCH, SIZE, SIZE, 3))
    label = np.eye(3, dtype=np.float32)[[0, 2, 1, 2]]
    keys = example_keys(jax.random.key(3), jnp.arange(BATCH))
    return Inputs(gan, variables, latent.astype(np.float32), image.astype(np.float32), label, keys)


NARROW = stylegan2.Config(
    latent_size=5, mapping_width=6, channel_base=128, max_width=8, group=2, mixing=0.0
)


def stylegan2_inputs(conditional: bool) -> Inputs:
    """StyleGAN2, with or without labels."""
    config = dataclasses.replace(NARROW, conditional=conditional)
    # The mapping networks' weights are divided by 100.
    return _inputs(
        stylegan2.make(SPEC, config, Plan(BATCH, 1)),
        lambda path, x: 100 if re.search("mapping|LabelMapping", str(path)) else 1,
    )


def r3gan_inputs() -> Inputs:
    """R3GAN with labels, and with a change of widths."""
    config = r3gan.Config(width=8, group=4, blocks=1, full_sizes=2)
    gan = r3gan.make(SPEC, config, Plan(BATCH, 1))
    return _inputs(gan, lambda path, x: 0.3 if x.ndim > 1 else 0.1)


MLP = improved_mlp.Config(latent_size=5, generator_widths=(6, 7), discriminator_widths=(8, 6))


def improved_mlp_inputs() -> Inputs:
    """The MLPs that learn from few labels, whose first batch was."""
    inputs = _inputs(improved_mlp.make(SPEC, MLP, Plan(BATCH, 1)), lambda path, x: 1)
    discriminator = {**inputs.variables["discriminator"]}
    first = flatten_dict(discriminator["first_batch"])
    # Deviations are positive.
    first = {path: np.abs(x) + 0.5 * (path[-1] == "deviation") for path, x in first.items()}
    discriminator["first_batch"] = unflatten_dict(first)
    return inputs._replace(variables={**inputs.variables, "discriminator": discriminator})


def labeled_images() -> np.ndarray:
    """Other pictures [BATCH, SIZE, SIZE, 3]."""
    return np.random.default_rng(1).uniform(-1, 1, (BATCH, SIZE, SIZE, 3)).astype(np.float32)


def probes(gradients: PyTree) -> np.ndarray:
    """Two numbers for each leaf, [leaves, 2]: its product with a wave, and its length."""
    flat = [np.ravel(x) for x in jax.tree.leaves(gradients)]
    return np.array([(x @ np.sin(np.arange(x.size) + 1), np.linalg.norm(x)) for x in flat])


# What turns the path of a PyTorch weight of StyleGAN2 into that of Flax's, in order.
_PATHS = {
    r"^mapping\.(\d)": r"mapping.dense_\1",
    r"^embed": "mapping.embed",
    r"^start": "synthesis.start",
    r"^convs\.(\d)\.weight": r"synthesis.StyledConv_\1.ModulatedConv_0.kernel",
    r"^convs\.(\d)\.affine": r"synthesis.StyledConv_\1.ModulatedConv_0.affine",
    r"^convs\.(\d)\.strength": r"synthesis.StyledConv_\1.Noise_0.strength",
    r"^convs\.(\d)": r"synthesis.StyledConv_\1",
    r"^colors\.(\d)": r"synthesis.ToRGB_\1",
    r"^colors": "EqualizedConv_0",
    r"^blocks\.0\.first": "EqualizedConv_1",
    r"^blocks\.0\.second": "EqualizedConv_2",
    r"^blocks\.0\.skip": "EqualizedConv_3",
    r"^blocks\.1\.first": "EqualizedConv_4",
    r"^blocks\.1\.second": "EqualizedConv_5",
    r"^blocks\.1\.skip": "EqualizedConv_6",
    r"^last": "EqualizedConv_7",
    r"^dense": "EqualizedDense_0",
    r"^out": "EqualizedDense_1",
    r"^labels\.(\d)": r"LabelMapping_0.EqualizedDense_\1",
    r"weight$": "kernel",
}


def _carried(params, network):
    """Puts parameters into a PyTorch network; returns them by path, as tensors with a gradient."""
    import torch

    leaves = {
        path: torch.tensor(np.array(x), requires_grad=True)
        for path, x in flatten_dict(params, sep=".").items()
    }
    unused = set(leaves)
    for name, _ in list(network.named_parameters()):
        path = name
        for old, new in _PATHS.items():
            path = re.sub(old, new, path)
        unused.remove(path)
        x = leaves[path]
        if path == "EqualizedDense_0.kernel":  # features [H, W, C] here and [C, H, W] there
            x = x.reshape(4, 4, -1, x.shape[1]).permute(2, 0, 1, 3).reshape(x.shape)
        x = x.permute({4: (3, 2, 0, 1), 3: (2, 0, 1), 2: (1, 0), 1: (0,), 0: ()}[x.ndim])
        module, _, field = name.rpartition(".")
        delattr(network.get_submodule(module), field)
        setattr(network.get_submodule(module), field, x)
    assert not unused
    return leaves


def _by_channel(x):
    import torch

    return torch.tensor(np.asarray(x)).permute(0, 3, 1, 2)


def _probed(value, leaves):
    """`probes` of the gradient, in the order of JAX."""
    import torch

    found = torch.autograd.grad(value, list(leaves.values()), materialize_grads=True)
    return probes(unflatten_dict(dict(zip(leaves, found, strict=True)), sep="."))


def _stylegan2(conditional: bool) -> Arrays:
    import torch

    sys.path.insert(0, str(BENCHMARKS))
    import torch_style

    inputs = stylegan2_inputs(conditional)
    g, d = torch_style.stylegan2(NARROW, SIZE, 3, 3 if conditional else 0)
    g_leaves, d_leaves = (
        _carried(inputs.variables[player]["params"], network)
        for player, network in (("generator", g), ("discriminator", d))
    )
    label = torch.tensor(inputs.label) if conditional else None

    def noise(keys):
        sides = [4, 8, 8, 16, 16]
        return [_by_channel(pixel_noise(fold(keys, i), s, s)) for i, s in enumerate(sides)]

    fake = g.synthesize(g.w(torch.tensor(inputs.latent), label), noise(inputs.keys))
    image = _by_channel(inputs.image).requires_grad_()
    source = d(image, label)
    (slope,) = torch.autograd.grad(source.sum(), image, create_graph=True)
    r1 = slope.square().sum((1, 2, 3)).mean() / 2

    # One of two neighbors, and other keys for latents, noise and directions.
    z, layers, directions = (fold(inputs.keys[::2], number) for number in range(3))
    z = torch.tensor(np.asarray(normal_latents(z, NARROW.latent_size)))
    w = g.w(z, None if label is None else label[::2]).contiguous()
    y = _by_channel(jax.vmap(lambda key: jax.random.normal(key, (SIZE, SIZE, 3)))(directions))
    (slope,) = torch.autograd.grad(
        (g.synthesize(w, noise(layers)) * y).sum() / SIZE, w, create_graph=True
    )
    lengths = slope.square().sum(2).mean(1).sqrt()
    mean = PATH_MEAN + NARROW.path_decay * (lengths.mean() - PATH_MEAN)
    path_length = (lengths - mean).square().mean()
    return {
        "image": fake.detach().permute(0, 2, 3, 1).numpy(),
        "source": source.detach().numpy(),
        "r1": r1.detach().numpy(),
        "r1_slopes": _probed(r1, d_leaves),
        "path_length": path_length.detach().numpy(),
        "path_mean": mean.detach().numpy(),
        "path_slopes": _probed(path_length, g_leaves),
    }


def _weight(tree, name):
    kernel = tree[name]["kernel"]
    return kernel.T if kernel.ndim == 2 else kernel.permute(3, 2, 0, 1)


def _r3gan_blocks(tree, x, widths, *, up):
    """The blocks of every size with what lies between them."""
    import torch
    import torch.nn.functional as F

    def resample(x):
        taps = torch.tensor([1.0, 3, 3, 1]) / 8
        kernel = torch.outer(taps, taps).expand(x.shape[1], 1, 4, 4)
        if up:
            return F.conv_transpose2d(x, 4 * kernel, None, 2, 1, groups=x.shape[1])
        return F.conv2d(x, kernel, None, 2, 1, groups=x.shape[1])

    convs = (_weight(tree, f"Conv_{n}") for n in range(100))
    if not up:
        x = F.conv2d(x, next(convs))
    for number, width in enumerate(widths):
        if up and x.shape[1] != width:
            x = F.conv2d(x, next(convs))
        if number:
            x = resample(x)
        if not up and x.shape[1] != width:
            x = F.conv2d(x, next(convs))
        block = tree[f"Block_{number}"]
        middle = _weight(block, "GroupedConv_0")
        y = F.conv2d(x, _weight(block, "Conv_0"), block["Conv_0"]["bias"])
        y = F.leaky_relu(y, 0.2)
        y = F.conv2d(y, middle, block["bias"], padding=1, groups=len(middle) // middle.shape[1])
        x = x + F.conv2d(F.leaky_relu(y, 0.2), _weight(block, "Conv_1"))
    return F.conv2d(x, next(convs)) if up else x


def _r3gan() -> Arrays:
    import torch

    inputs = r3gan_inputs()
    trees = []
    for player in ("generator", "discriminator"):
        leaves = flatten_dict(inputs.variables[player]["params"], sep=".")
        trees.append({n: torch.tensor(x, requires_grad=True) for n, x in leaves.items()})
    g, d = (unflatten_dict(tree, sep=".") for tree in trees)
    label = torch.tensor(inputs.label)

    latent = torch.cat([torch.tensor(inputs.latent), label @ _weight(g, "Dense_0").T], 1)
    x = g["basis"].permute(2, 0, 1) * (latent @ _weight(g, "Dense_1").T)[..., None, None]
    fake = _r3gan_blocks(g, x, (8, 8, 4), up=True)

    def score(image):
        y = _r3gan_blocks(d, image, (4, 8, 8), up=False)
        y = (y * d["basis"].permute(2, 0, 1)).sum((2, 3))
        return ((y @ _weight(d, "Dense_0").T) * (label @ _weight(d, "Dense_1").T)).sum(1)

    def penalty(image):
        image = image.detach().requires_grad_()
        (slope,) = torch.autograd.grad(score(image).sum(), image, create_graph=True)
        return slope.square().sum((1, 2, 3)).mean() / 2

    image = _by_channel(inputs.image)
    source, r1, r2 = score(image), penalty(image), penalty(fake)
    return {
        "image": fake.detach().permute(0, 2, 3, 1).numpy(),
        "source": source.detach().numpy(),
        "r1": r1.detach().numpy(),
        "r1_slopes": _probed(r1, trees[1]),
        "r2": r2.detach().numpy(),
        "r2_slopes": _probed(r2, trees[1]),
    }


def _improved_mlp() -> Arrays:
    """Images, logits, and both players' losses with their gradients, as the paper's code has them:
    its scales and biases are what the first batch and the parameters make together."""
    import torch
    import torch.nn.functional as F

    inputs = improved_mlp_inputs()
    g, d = (
        {n: torch.tensor(x, requires_grad=True) for n, x in flatten_dict(tree, sep=".").items()}
        for tree in (inputs.variables[p]["params"] for p in ("generator", "discriminator"))
    )
    first = flatten_dict(inputs.variables["discriminator"]["first_batch"], sep=".")
    first = {name: torch.tensor(x) for name, x in first.items()}

    def noises(keys):
        sizes = (3 * SIZE * SIZE, *MLP.discriminator_widths)
        drawn = torch.tensor(np.asarray(normal_latents(keys, sum(sizes))))
        deviations = (MLP.image_noise, *[MLP.noise] * len(MLP.discriminator_widths))
        return [a * x for a, x in zip(deviations, drawn.split(sizes, 1), strict=True)]

    def classify(image, keys):
        x = (image.reshape(BATCH, -1) + 1) / 2
        hidden = None
        for number, noise in enumerate(noises(keys)):
            name = f"WeightNormDense_{number}"
            deviation = first[f"{name}.deviation"]
            g_scale = d.get(f"{name}.scale", torch.ones_like(deviation))
            theta = d[f"{name}.kernel"]
            weight = theta * (g_scale / deviation / theta.square().sum(0).sqrt())
            bias = d[f"{name}.bias"] - g_scale * first[f"{name}.mean"] / deviation
            y = (x + noise) @ weight + bias
            if number == len(MLP.discriminator_widths):
                return y, hidden
            x = hidden = y.relu()

    x = torch.distributions.Normal(0, 1).cdf(torch.tensor(inputs.latent))
    for number in range(2):
        x = x @ g[f"Dense_{number}.kernel"]
        x = F.batch_norm(x, None, None, None, g[f"BatchNorm_{number}.bias"], training=True)
        x = F.softplus(x)
    theta = g["WeightNormDense_0.kernel"]
    weight = theta * (g["WeightNormDense_0.scale"] / (1e-6 + theta.square().sum(0)).sqrt())
    fake = torch.sigmoid(x @ weight + g["WeightNormDense_0.bias"]) * 2 - 1

    others = fold(inputs.keys, 1)
    image, labeled = torch.tensor(inputs.image), torch.tensor(labeled_images())
    logits, real = classify(image, inputs.keys)
    fake_logits, _ = classify(fake.detach(), others)
    _, made = classify(fake, others)
    named, _ = classify(labeled, inputs.keys)
    l_real, l_fake, l_named = (torch.logsumexp(x, 1) for x in (logits, fake_logits, named))
    answer = (named * torch.tensor(inputs.label)).sum(1)
    unlabeled = (F.softplus(l_real) - l_real).mean() / 2 + F.softplus(l_fake).mean() / 2
    d_loss = (l_named - answer).mean() + unlabeled
    g_loss = (real.detach().mean(0) - made.mean(0)).square().mean()
    return {
        "image": fake.detach().reshape(BATCH, SIZE, SIZE, 3).numpy(),
        "logits": logits.detach().numpy(),
        "d_loss": d_loss.detach().numpy(),
        "d_slopes": _probed(d_loss, d),
        "g_loss": g_loss.detach().numpy(),
        "g_slopes": _probed(g_loss, g),
    }


START = np.array([1.0, -2.0, 0.5, 0.0], np.float32)
GRADIENTS = np.array(
    [[0.1, -0.2, 3.0, 0.0], [0.3, 0.1, -1.0, 1e-6], [-0.2, 0.0, 0.5, -2e-6]], np.float32
)


def _rmsprop() -> Arrays:
    """The weights `START` after each of `GRADIENTS`, with a rate of .05."""
    import torch

    weight = torch.nn.Parameter(torch.tensor(START))
    optimizer, weights = torch.optim.RMSprop([weight], lr=0.05), []
    for gradient in GRADIENTS:
        weight.grad = torch.tensor(gradient)
        optimizer.step()
        weights.append(weight.detach().numpy().copy())
    return {"weights": np.stack(weights)}


MAKERS: Mapping[str, Callable[[], Arrays]] = {
    "torch_stylegan2": lambda: _stylegan2(False),
    "torch_stylegan2_labels": lambda: _stylegan2(True),
    "torch_r3gan": _r3gan,
    "torch_rmsprop": _rmsprop,
    "torch_improved_mlp": _improved_mlp,
}
