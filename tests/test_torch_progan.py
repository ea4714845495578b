"""ProGAN's networks against the same ones in PyTorch, with the same weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT

from jaxgan.core import Context, Plan
from jaxgan.data import DataSpec
from jaxgan.models import progan

torch = pytest.importorskip("torch")

CONFIG = progan.Config(latent_size=6, width=8, start_size=16, group=2)


def test_networks_compute_what_pytorchs_do(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import torch_progan

    (stage,) = progan.make(DataSpec("noise", 16, 3, None, ()), CONFIG, Plan(8, 1))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda x: rng.normal(size=x.shape).astype(np.float32),
        jax.eval_shape(stage.gan.init, jax.random.key(0)),
    )
    networks = torch_progan.networks(CONFIG, 16, 3)
    g, d = (variables[player]["params"] for player in ("generator", "discriminator"))
    # Features [H, W, C] here are [C, H, W] there.
    rows = g["dense_4"]["kernel"].reshape(6, 4, 4, 8).transpose(3, 1, 2, 0).reshape(-1, 6)
    _load(networks.generator, {"dense.weight": rows, "bias": g["bias"]}, g, "ups", "up_")
    rows = d["dense_4"]["kernel"].reshape(4, 4, 8, 8).transpose(3, 2, 0, 1).reshape(8, -1)
    dense = {"dense.weight": rows, "dense.bias": d["dense_4"]["bias"]}
    dense |= {"heads.weight": d["heads"]["kernel"].T, "heads.bias": d["heads"]["bias"]}
    _load(networks.discriminator, dense, d, "downs", "down_")

    latent = rng.normal(size=(4, 6)).astype(np.float32)
    image = rng.uniform(-1, 1, (4, 16, 16, 3)).astype(np.float32)
    context = Context(jnp.int32(0), None, {}, train=True)

    @jax.jit
    def compute(latent, image):
        def score(image):
            return stage.gan.score(variables["discriminator"], image, None, context)[0].source

        slope = jax.grad(lambda x: (score(x) ** 2).sum())(image)
        fake, _ = stage.gan.generate(variables["generator"], {"latent": latent}, context)
        return fake.image, score(image), slope

    torch_image = torch.tensor(image).permute(0, 3, 1, 2).requires_grad_()
    source = networks.discriminator(torch_image)
    (slope,) = torch.autograd.grad((source**2).sum(), torch_image)
    fake = networks.generator(torch.tensor(latent)).permute(0, 2, 3, 1)
    expected = fake, source, slope.permute(0, 2, 3, 1)
    for ours, theirs in zip(compute(latent, image), expected, strict=True):
        theirs = theirs.detach().numpy()
        np.testing.assert_allclose(
            ours / np.abs(theirs).max(), theirs / np.abs(theirs).max(), atol=1e-4
        )


def _load(network, arrays, params, blocks, prefix):
    """Loads the arrays, and the convolutions beside them."""
    names = {"conv": params["conv_4"], "image": params["image_16"]}
    sides = (8, 16) if prefix == "up_" else (16, 8)
    for number, side in enumerate(sides):
        for half in range(2):
            block = params[f"{prefix}{side}"]
            names[f"{blocks}.{number}.{half}"] = block[f"EqualizedConv_{half}"]
    for name, conv in names.items():
        arrays[f"{name}.weight"] = conv["kernel"].transpose(3, 2, 0, 1)
        arrays[f"{name}.bias"] = conv["bias"]
    network.load_state_dict({name: torch.tensor(x.copy()) for name, x in arrays.items()})
