"""PyTorch's numbers for StarGAN: networks, whole losses and their gradients, and the inputs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict
from stored.models import BENCHMARKS, Arrays, probes

from jaxgan.core import Gan, Plan, PyTree, example_keys
from jaxgan.data import DataSpec
from jaxgan.models import stargan

BATCH, SIZE, CLASSES = 4, 16, 3
KEY = jax.random.key(5)
CONFIG = stargan.Config(
    width=4, blocks=2, discriminator_width=4, discriminator_layers=3, group=BATCH
)


class Inputs(NamedTuple):
    """A small StarGAN, and all that it gets; no bias is zero."""

    gan: Gan
    variables: PyTree
    image: np.ndarray  # [BATCH, SIZE, SIZE, 3]
    label: np.ndarray  # [BATCH, CLASSES]


def stargan_inputs() -> Inputs:
    """The same numbers at each call."""
    spec = DataSpec("data", SIZE, 3, "class", tuple("abc"))
    gan = stargan.make(spec, CONFIG, Plan(BATCH, 1))
    random = np.random.default_rng(0)

    def draw(x):
        return random.normal(scale=0.2 if x.ndim > 1 else 1, size=x.shape).astype(np.float32)

    variables = jax.tree.map(draw, jax.eval_shape(gan.init, jax.random.key(0)))
    image = random.uniform(-1, 1, (BATCH, SIZE, SIZE, 3)).astype(np.float32)
    return Inputs(gan, variables, image, np.eye(CLASSES, dtype=np.float32)[[0, 2, 1, 2]])


def _keys(number: int) -> jax.Array:
    """The keys that update `number` has for generating and for its terms, [2, BATCH]."""
    rng = jax.random.fold_in(jax.random.fold_in(KEY, number), 0)
    _, generate, _, terms = jax.random.split(rng, 4)
    return jnp.stack([example_keys(key, jnp.arange(BATCH)) for key in (generate, terms)])


_NAMES = {"Conv2d": "Conv", "ConvTranspose2d": "ConvTranspose", "InstanceNorm2d": "InstanceNorm"}


def _layers(module, prefix: str = "") -> Iterator[tuple[str, object]]:
    """The layers of a PyTorch module with their paths in Flax, whose modules are counted by kind
    in the same order."""
    counts: dict[str, int] = {}

    def inside(module):
        for child in module.children():
            kind = _NAMES.get(type(child).__name__, type(child).__name__)
            if kind == "Sequential":
                yield from inside(child)
                continue
            name = f"{prefix}{kind}_{counts.get(kind, 0)}"
            counts[kind] = counts.get(kind, 0) + 1
            yield from _layers(child, f"{name}.") if kind == "Residual" else [(name, child)]

    return inside(module)


def _carry(params, network) -> dict[str, object]:
    """Puts parameters into a PyTorch network, and returns its own by their paths in Flax."""
    import torch

    found = {}
    for path, layer in _layers(network):
        tree = params
        for name in path.split("."):
            tree = tree.get(name, {})
        for name, x in tree.items():
            x = np.transpose(x, (3, 2, 0, 1)) if x.ndim == 4 else x
            parameter = getattr(layer, "bias" if name == "bias" else "weight")
            parameter.data = torch.tensor(np.ascontiguousarray(x))
            found[f"{path}.{name}"] = parameter
    assert len(found) == len(jax.tree.leaves(params)) == len(list(network.parameters()))
    return found


def _probed(loss, parameters) -> np.ndarray:
    """`probes` of the gradient, laid out and ordered as in JAX."""
    import torch

    slopes = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True)
    slopes = [x.permute(2, 3, 1, 0) if x.ndim == 4 else x for x in slopes]
    tree = {path: x.numpy() for path, x in zip(parameters, slopes, strict=True)}
    tree = unflatten_dict(tree, sep=".")
    return probes(tree)


def _stargan() -> Arrays:
    import torch

    sys.path.insert(0, str(BENCHMARKS))
    import torch_star

    inputs = stargan_inputs()
    g, d = torch_star.networks(CONFIG, SIZE, 3, CLASSES)
    g_params, d_params = (
        _carry(inputs.variables[player]["params"], network)
        for player, network in (("generator", g), ("discriminator", d))
    )
    x = torch.tensor(inputs.image).permute(0, 3, 1, 2)
    label = torch.tensor(inputs.label)
    targets, mixing = [], []
    for number in range(2):
        generate, terms = _keys(number)
        targets.append(torch.tensor(np.array(inputs.gan.targets(inputs.label, generate))))
        mixing.append(torch.tensor(np.array(jax.vmap(jax.random.uniform)(terms))))

    fake = g(x, targets[0]).detach()
    t = mixing[0].reshape(-1, 1, 1, 1)
    d_loss = torch_star.discriminator_loss(d, x, label, fake, t, CONFIG)
    g_loss = torch_star.generator_loss(g, d, x, label, targets[1], CONFIG)
    source, logits = d(x)
    return {
        "image": g(x, label).detach().permute(0, 2, 3, 1).numpy(),
        "source": source.detach().numpy(),
        "logits": logits.detach().numpy(),
        "discriminator_loss": d_loss.detach().numpy(),
        "discriminator_slopes": _probed(d_loss, d_params),
        "generator_loss": g_loss.detach().numpy(),
        "generator_slopes": _probed(g_loss, g_params),
    }


MAKERS: Mapping[str, Callable[[], Arrays]] = {"torch_stargan": _stargan}
