"""PyTorch's numbers for the networks that `benchmarks/` writes twice, and what they belong to.

Tests draw the inputs anew. Arrays are laid out as in this library: images [B, H, W, C].
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from stored.models import BENCHMARKS, Arrays

from jaxgan.core import Batch, Gan, Plan, Variables
from jaxgan.data import DataSpec
from jaxgan.models import MODELS
from jaxgan.stages import as_stages

BATCH = 4
KEPT = slice(None, None, 3)
"""The rows and columns that are kept of pictures: all phases of a stride."""


class Case(NamedTuple):
    """A model, and how its Config differs from the default."""

    model: str
    fields: Mapping[str, object]
    size: int = 16
    channels: int = 3
    labels: int = 0
    modes: tuple[str, ...] = ("train", "eval")

    @property
    def config(self):
        return dataclasses.replace(MODELS[self.model].Config(), **self.fields)


_COURSE = {"width": 4, "kernel": 5, "linear_stem": True, "bias": True}
_PROGAN = {"latent_size": 6, "width": 8, "start_size": 16, "group": 2}
CASES = {
    "torch_gan": Case("gan", {}, 8, 1),
    "torch_dcgan": Case("dcgan", {"width": 4}),
    "torch_dcgan_course": Case("dcgan", _COURSE),
    "torch_dcgan_course_28": Case("dcgan", _COURSE, 28, 1),
    "torch_wgan_gp": Case("wgan_gp", {"width": 4}),
    "torch_wgan_gp_labels": Case("wgan_gp", {"width": 4}, labels=5),
    "torch_improved": Case("improved", {"width": 4, "group": 2}, 28, 1, 3),
    "torch_sagan": Case("sagan", {"width": 8}, labels=3),
    "torch_progan": Case("progan", _PROGAN, modes=("train",)),  # images are clipped elsewhere
}


def network_inputs(name: str) -> tuple[Gan, Mapping[str, Variables], Batch]:
    """The Gan of a case, variables for both players, and {"latent", "image", "label"} [BATCH, ...].

    Variables are drawn, not initialized, so that no bias or running mean is zero.
    """
    case = CASES[name]
    names = tuple(map(str, range(case.labels)))
    spec = DataSpec("noise", case.size, case.channels, "class" if names else None, names)
    model = MODELS[case.model].make(spec, case.config, Plan(BATCH, 1))
    gan = as_stages(model, case.size, BATCH)[0].gan
    random = np.random.default_rng(0)

    def draw(x):
        if case.model == "progan":  # which scales its weights itself
            return random.normal(size=x.shape).astype(np.float32)
        # Running variances are > 0.
        return random.uniform(0, 0.2, x.shape).astype(np.float32) - np.float32(0.1 * (x.ndim > 1))

    variables = jax.tree.map(draw, jax.eval_shape(gan.init, jax.random.key(0)))
    if case.model == "sagan":
        variables = {player: _with_unit_vectors(tree) for player, tree in variables.items()}
    latent = random.normal(size=(BATCH, case.config.latent_size))
    image = random.uniform(-1, 1, (BATCH, case.size, case.size, case.channels))
    label = np.eye(case.labels, dtype=np.float32)[np.arange(BATCH) % case.labels] if names else None
    batch = {"latent": latent.astype(np.float32), "image": image.astype(np.float32), "label": label}
    return gan, variables, batch


def _with_unit_vectors(variables):
    """Spectral vectors with which no drawn kernel is divided by something near zero."""

    def vectors(params, old):
        if "kernel" not in params:
            return {name: vectors(params[name], x) for name, x in old.items()}
        u = old["u"] / np.linalg.norm(old["u"])
        v = params["kernel"].reshape(-1, len(u)) @ u
        return {"u": u, "v": v / np.linalg.norm(v)}

    return {**variables, "spectral": vectors(variables["params"], variables["spectral"])}


def _networks(name: str) -> Arrays:
    """In every mode of a case: images made of latents, the scores of images, and the gradient of
    the sum of the squared scores with respect to these."""
    import torch

    sys.path.insert(0, str(BENCHMARKS))
    import torch_models
    import torch_progan

    case = CASES[name]
    _, variables, batch = network_inputs(name)
    make = torch_models.NETWORKS.get(case.model, torch_progan.networks)
    networks = make(case.config, case.size, case.channels, case.labels)
    carry = {"sagan": _carry_by_path, "progan": _carry_progan}.get(case.model, _carry)
    latent = torch.tensor(batch["latent"])
    image = torch.tensor(batch["image"]).permute(0, 3, 1, 2).requires_grad_()
    label = torch.tensor(batch["label"]) if case.labels else None

    numbers = {}
    for mode in case.modes:
        for network, player in zip(networks, ("generator", "discriminator"), strict=True):
            carry(variables[player], network)  # again, for training moves the statistics
            network.train(mode == "train")
            torch_models.move_vectors(network, False)
        source = networks.discriminator(image, label)
        if case.model == "improved":
            logits = source[0]
            source = torch.logsumexp(logits[:, :-1], 1) - logits[:, -1]
        (gradient,) = torch.autograd.grad(source.square().sum(), image)
        fake = networks.generator(latent, label)
        for key, x in (("image", fake), ("gradient", gradient)):
            numbers[f"{mode}_{key}"] = x.detach().permute(0, 2, 3, 1).numpy()[:, KEPT, KEPT]
        numbers[f"{mode}_source"] = source.detach().numpy()
    count = sum(p.numel() for network in networks for p in network.parameters())
    assert count == sum(x.size for v in variables.values() for x in jax.tree.leaves(v["params"]))
    return numbers


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
    import torch

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
    import torch

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


def _carry_by_path(variables, network):
    """Copies the variables of a SAGAN's player."""
    import torch

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


def _carry_progan(variables, network):
    """Copies the variables of a ProGAN's player."""
    import torch

    params = variables["params"]
    dense = params["dense_4"]["kernel"]
    # Features [H, W, C] here are [C, H, W] there.
    if "heads" in params:
        prefix, blocks, sides = "down_", "downs", (16, 8)
        rows = dense.reshape(4, 4, -1, dense.shape[1]).transpose(3, 2, 0, 1)
        arrays = {
            "dense.weight": rows.reshape(dense.shape[1], -1),
            "dense.bias": params["dense_4"]["bias"],
            "heads.weight": params["heads"]["kernel"].T,
            "heads.bias": params["heads"]["bias"],
        }
    else:
        prefix, blocks, sides = "up_", "ups", (8, 16)
        rows = dense.reshape(len(dense), 4, 4, -1).transpose(3, 1, 2, 0).reshape(-1, len(dense))
        arrays = {"dense.weight": rows, "bias": params["bias"]}
    convs = {"conv": params["conv_4"], "image": params["image_16"]}
    for number, side in enumerate(sides):
        for half in range(2):
            conv = params[f"{prefix}{side}"][f"EqualizedConv_{half}"]
            convs[f"{blocks}.{number}.{half}"] = conv
    for name, conv in convs.items():
        arrays[f"{name}.weight"] = conv["kernel"].transpose(3, 2, 0, 1)
        arrays[f"{name}.bias"] = conv["bias"]
    network.load_state_dict({name: torch.tensor(x.copy()) for name, x in arrays.items()})


MAKERS: Mapping[str, Callable[[], Arrays]] = {
    name: functools.partial(_networks, name) for name in CASES
}
