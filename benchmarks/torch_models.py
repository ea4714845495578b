"""jaxgan's models as a PyTorch user writes them: the other side of `peers.py`.

The networks are the same ones, layer for layer; `tests/test_peers.py` carries weights across and
compares what they compute. The steps compute the same, too: new latents for the generator's update,
as the course on anime faces and the tutorial on MNIST draw them (PyTorch's own DCGAN example
moves the generator on the images that the discriminator has just seen, which saves a pass and is
another algorithm: `reuse_images`), and the discriminator is frozen while the generator moves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Setting(NamedTuple):
    """How PyTorch is run; see `peers.py` for what was tried."""

    device: str
    channels_last: bool
    fused_adam: bool
    reuse_images: bool = False  # the generator is moved on the discriminator's images


class Networks(NamedTuple):
    generator: nn.Module  # [B, Z] -> [B, C, H, W] in [-1, 1]
    discriminator: nn.Module  # [B, C, H, W] -> [B] logits


def mlp(config, size: int, channels: int) -> Networks:
    """The networks of `jaxgan.models.gan`."""

    def stack(widths, last):
        layers = []
        for inputs, outputs in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(0.2)]
        return [*layers, nn.Linear(widths[-1], last)]

    image = (channels, size, size)
    pixels = channels * size * size
    g = stack((config.latent_size, *config.generator_widths), pixels)
    d = stack((pixels, *config.discriminator_widths), 1)
    return Networks(
        nn.Sequential(*g, nn.Tanh(), nn.Unflatten(1, image)),
        nn.Sequential(nn.Flatten(), *d, nn.Flatten(0)),
    )


def dcgan(config, size: int, channels: int, *, norm: bool = True) -> Networks:
    """The networks of `jaxgan.models.dcgan`; without `norm` those of `wgan_gp`."""
    halvings, side = 0, size
    while side > 7 and side % 2 == 0:
        halvings, side = halvings + 1, side // 2
    widths = [config.width * 2**i for i in range(halvings)]
    top, k, bias = widths[-1], config.kernel, config.bias
    padding, extra = (k - 1) // 2, k % 2

    if config.linear_stem:
        features = top * side * side
        g = [
            nn.Linear(config.latent_size, features, bias=False),
            nn.BatchNorm1d(features),
            nn.ReLU(inplace=True),
            nn.Unflatten(1, (top, side, side)),
        ]
    else:
        g = [
            nn.Unflatten(1, (config.latent_size, 1, 1)),
            nn.ConvTranspose2d(config.latent_size, top, side, bias=False),
            nn.BatchNorm2d(top),
            nn.ReLU(inplace=True),
        ]
    for inputs, outputs in zip(widths[:0:-1], widths[-2::-1], strict=True):
        g += [
            nn.ConvTranspose2d(inputs, outputs, k, 2, padding, extra, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    g += [nn.ConvTranspose2d(widths[0], channels, k, 2, padding, extra, bias=bias), nn.Tanh()]

    d = []
    for i, (inputs, outputs) in enumerate(zip([channels, *widths[:-1]], widths, strict=True)):
        d.append(nn.Conv2d(inputs, outputs, k, 2, padding, bias=bias))
        if norm and i > 0:
            d.append(nn.BatchNorm2d(outputs))
        d.append(nn.LeakyReLU(0.2, inplace=True))
    d += [nn.Conv2d(top, 1, side, bias=bias), nn.Flatten(0)]

    networks = Networks(nn.Sequential(*g), nn.Sequential(*d))
    for module in (*g, *d):
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
        elif isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return networks


def wgan_gp(config, size: int, channels: int) -> Networks:
    """The networks of `jaxgan.models.wgan_gp`."""
    return dcgan(config, size, channels, norm=False)


NETWORKS = {"gan": mlp, "dcgan": dcgan, "wgan_gp": wgan_gp}


def training(
    model: str, networks: Networks, config, images: Tensor, batch_size: int, setting: Setting
) -> Callable[[], Tensor]:
    """Returns a function that runs one iteration and gives the last loss.

    Args:
      model: a name of `NETWORKS`.
      networks: what to train, in place.
      config: the model's Config in jaxgan.
      images: [N, C, H, W] uint8.
      batch_size: of each update.
      setting: how.
    """
    layout = torch.channels_last if setting.channels_last else torch.contiguous_format
    images = images.to(setting.device).contiguous(memory_format=layout)
    g, d = (module.to(setting.device, memory_format=layout).train() for module in networks)
    betas = (config.beta1, config.beta2)
    fused = setting.fused_adam or None
    g_adam = torch.optim.Adam(g.parameters(), config.learning_rate, betas, fused=fused)
    d_adam = torch.optim.Adam(d.parameters(), config.learning_rate, betas, fused=fused)

    def real():
        chosen = torch.randint(len(images), (batch_size,), device=setting.device)
        return images[chosen].float().div_(127.5).sub_(1)

    def latents():
        return torch.randn(batch_size, config.latent_size, device=setting.device)

    def minimize(adam, loss):
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        return loss.detach()

    def minimax():
        with torch.set_grad_enabled(setting.reuse_images):
            fake = g(latents())
        on_real, on_fake = d(real()), d(fake.detach())
        minimize(d_adam, F.softplus(-on_real).mean() + F.softplus(on_fake).mean())
        d.requires_grad_(False)
        fake = fake if setting.reuse_images else g(latents())
        loss = minimize(g_adam, F.softplus(-d(fake)).mean())
        d.requires_grad_(True)
        return loss

    def wasserstein():
        for _ in range(config.n_critic):
            x = real()
            with torch.no_grad():
                fake = g(latents())
            loss = d(fake).mean() - d(x).mean()
            minimize(d_adam, loss + config.penalty * _gradient_penalty(d, x, fake))
        d.requires_grad_(False)
        loss = minimize(g_adam, -d(g(latents())).mean())
        d.requires_grad_(True)
        return loss

    return wasserstein if model == "wgan_gp" else minimax


def _gradient_penalty(d: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    t = torch.rand(len(real), 1, 1, 1, device=real.device)
    mixture = torch.lerp(fake, real, t).requires_grad_(True)
    (slope,) = torch.autograd.grad(d(mixture).sum(), mixture, create_graph=True)
    return (slope.flatten(1).norm(dim=1) - 1).square().mean()
