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
    generator: nn.Module  # [B, Z] and labels or None -> [B, C, H, W] in [-1, 1]
    discriminator: nn.Module  # [B, C, H, W] and labels or None -> [B] logits


class Plain(nn.Sequential):
    """Layers that do not look at the label."""

    def forward(self, x, label=None):
        return super().forward(x)


class BesideLatents(nn.Module):
    """A generator that gets an embedding of the label beside the latents."""

    def __init__(self, labels: int, features: int, body: nn.Module):
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(labels, features), nn.ReLU(inplace=True))
        self.body = body

    def forward(self, z, label):
        return self.body(torch.cat([z, self.embed(label)], 1))


class AsPlane(nn.Module):
    """A discriminator that gets an embedding of the label as one more plane of the image."""

    def __init__(self, labels: int, size: int, body: nn.Module):
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(labels, size * size), nn.ReLU(inplace=True))
        self.body = body

    def forward(self, x, label):
        plane = self.embed(label).reshape(len(x), 1, *x.shape[2:])
        return self.body(torch.cat([x, plane], 1))


def mlp(config, size: int, channels: int, labels: int = 0) -> Networks:
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
        Plain(*g, nn.Tanh(), nn.Unflatten(1, image)),
        Plain(nn.Flatten(), *d, nn.Flatten(0)),
    )


_EMBEDDING = 100


def dcgan(config, size: int, channels: int, labels: int = 0, *, norm: bool = True) -> Networks:
    """The networks of `jaxgan.models.dcgan`; without `norm` those of `wgan_gp`."""
    latents = config.latent_size + (_EMBEDDING if labels else 0)
    halvings, side = 0, size
    while side > 7 and side % 2 == 0:
        halvings, side = halvings + 1, side // 2
    widths = [config.width * 2**i for i in range(halvings)]
    top, k, bias = widths[-1], config.kernel, config.bias
    padding, extra = (k - 1) // 2, k % 2

    if config.linear_stem:
        features = top * side * side
        g = [
            nn.Linear(latents, features, bias=False),
            nn.BatchNorm1d(features),
            nn.ReLU(inplace=True),
            nn.Unflatten(1, (top, side, side)),
        ]
    else:
        g = [
            nn.Unflatten(1, (latents, 1, 1)),
            nn.ConvTranspose2d(latents, top, side, bias=False),
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
    planes = channels + bool(labels)
    for i, (inputs, outputs) in enumerate(zip([planes, *widths[:-1]], widths, strict=True)):
        d.append(nn.Conv2d(inputs, outputs, k, 2, padding, bias=bias))
        if norm and i > 0:
            d.append(nn.BatchNorm2d(outputs))
        d.append(nn.LeakyReLU(0.2, inplace=True))
    d += [nn.Conv2d(top, 1, side, bias=bias), nn.Flatten(0)]

    networks = Networks(Plain(*g), Plain(*d))
    if labels:
        networks = Networks(
            BesideLatents(labels, _EMBEDDING, networks.generator),
            AsPlane(labels, size, networks.discriminator),
        )
    for module in (*g, *d):
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
        elif isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return networks


def wgan_gp(config, size: int, channels: int, labels: int = 0) -> Networks:
    """The networks of `jaxgan.models.wgan_gp`."""
    return dcgan(config, size, channels, labels, norm=False)


class CourseGenerator(nn.Module):
    """The generator of `jaxgan.models.improved` at 28 px."""

    def __init__(self, config, channels: int, labels: int):
        super().__init__()
        width = config.width
        layers = [
            nn.Linear(config.latent_size + labels, 16 * width),
            nn.ReLU(inplace=True),
            nn.Unflatten(1, (4 * width, 2, 2)),
        ]
        for inputs, outputs, kernel, stride in (
            (4 * width, 2 * width, 5, 1),
            (2 * width, 2 * width, 4, 2),
            (2 * width, width, 4, 2),
        ):
            layers += [
                nn.ConvTranspose2d(inputs, outputs, kernel, stride),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
        self.body = nn.Sequential(*layers, nn.Conv2d(width, channels, 1), nn.Tanh())

    def forward(self, z, label):
        return self.body(torch.cat([z, label], 1))[:, :, 1:29, 1:29]


class CourseDiscriminator(nn.Module):
    """The discriminator of `jaxgan.models.improved` at 28 px: K + 1 logits, features."""

    def __init__(self, config, channels: int, labels: int):
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, config.discriminator_width, 2),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(config.discriminator_width, 2, 2, stride=2),
            nn.BatchNorm2d(2),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Flatten(),
        )
        self.shape = (config.group, config.kernels, config.dims)
        self.kernel = nn.Linear(338, config.kernels * config.dims, bias=False)
        self.project = nn.Linear(338 + config.kernels, labels + 1)

    def features(self, x):
        return self.convolutions(x)

    def forward(self, x, label=None):
        features = self.features(x)
        m = self.kernel(features).reshape(-1, *self.shape)
        near = torch.exp(-(m[:, :, None] - m[:, None]).abs().sum(-1)).sum(2)
        near = near.reshape(len(x), -1)
        return self.project(torch.cat([features, near], 1)), features


def improved(config, size: int, channels: int, labels: int) -> Networks:
    """The networks of `jaxgan.models.improved`; the discriminator's logits have no source yet."""
    return Networks(
        CourseGenerator(config, channels, labels), CourseDiscriminator(config, channels, labels)
    )


NETWORKS = {"gan": mlp, "dcgan": dcgan, "wgan_gp": wgan_gp, "improved": improved}


def training(
    model: str,
    networks: Networks,
    config,
    images: Tensor,
    labels: Tensor | None,
    batch_size: int,
    setting: Setting,
) -> Callable[[], Tensor]:
    """Returns a function that runs one iteration and gives the last loss.

    Args:
      model: a name of `NETWORKS`.
      networks: what to train, in place.
      config: the model's Config in jaxgan.
      images: [N, C, H, W] uint8.
      labels: [N, K], or None.
      batch_size: of each update.
      setting: how.
    """
    layout = torch.channels_last if setting.channels_last else torch.contiguous_format
    images = images.to(setting.device).contiguous(memory_format=layout)
    labels = None if labels is None else labels.to(setting.device)
    g, d = (module.to(setting.device, memory_format=layout).train() for module in networks)
    betas = (config.beta1, config.beta2)
    fused = setting.fused_adam or None
    g_adam = torch.optim.Adam(g.parameters(), config.learning_rate, betas, fused=fused)
    d_adam = torch.optim.Adam(d.parameters(), config.learning_rate, betas, fused=fused)

    def real():
        chosen = torch.randint(len(images), (batch_size,), device=setting.device)
        image = images[chosen].float().div_(127.5).sub_(1)
        return image, None if labels is None else labels[chosen]

    def latents():
        return torch.randn(batch_size, config.latent_size, device=setting.device)

    def minimize(adam, loss):
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        return loss.detach()

    def minimax():
        image, label = real()
        with torch.set_grad_enabled(setting.reuse_images):
            fake = g(latents(), label)
        on_real, on_fake = d(image, label), d(fake.detach(), label)
        minimize(d_adam, F.softplus(-on_real).mean() + F.softplus(on_fake).mean())
        d.requires_grad_(False)
        fake = fake if setting.reuse_images else g(latents(), label)
        loss = minimize(g_adam, F.softplus(-d(fake, label)).mean())
        d.requires_grad_(True)
        return loss

    def wasserstein():
        for _ in range(config.n_critic):
            x, label = real()
            with torch.no_grad():
                fake = g(latents(), label)
            loss = d(fake, label).mean() - d(x, label).mean()
            penalty = _gradient_penalty(lambda x, label=label: d(x, label), x, fake)
            minimize(d_adam, loss + config.penalty * penalty)
        d.requires_grad_(False)
        loss = minimize(g_adam, -d(g(latents(), label), label).mean())
        d.requires_grad_(True)
        return loss

    def classes_and_generated():
        image, label = real()
        target = (1 - config.smoothing) * F.pad(label, (0, 1))
        target[:, -1] = config.smoothing
        generated = torch.full((batch_size,), label.shape[1], device=setting.device)
        with torch.no_grad():
            fake = g(latents(), label)
        loss = F.cross_entropy(d(image)[0], target)
        loss = loss + config.fake_weight * F.cross_entropy(d(fake)[0], generated)
        minimize(d_adam, loss)
        d.requires_grad_(False)
        with torch.no_grad():
            wanted = d.features(image).mean(0)
        logits, features = d(g(latents(), label))
        loss = F.cross_entropy(logits, F.pad(label, (0, 1)))
        loss = minimize(g_adam, loss + config.matching * F.mse_loss(features.mean(0), wanted))
        d.requires_grad_(True)
        return loss

    return {"wgan_gp": wasserstein, "improved": classes_and_generated}.get(model, minimax)


def _gradient_penalty(d: Callable, real: Tensor, fake: Tensor) -> Tensor:
    t = torch.rand(len(real), 1, 1, 1, device=real.device)
    mixture = torch.lerp(fake, real, t).requires_grad_(True)
    (slope,) = torch.autograd.grad(d(mixture).sum(), mixture, create_graph=True)
    return (slope.flatten(1).norm(dim=1) - 1).square().mean()
