"""StarGAN as a PyTorch user writes it: the other side of `peers.py` and of its tests.

The networks and losses are those of `jaxgan.models.stargan`, layer for layer. As there each update
draws target labels of its own, the labels of the batch in another order; the official code moves
the generator on those of the last critic step.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_models import Networks, Setting, minimize


def _norm(features: int) -> nn.Module:
    return nn.InstanceNorm2d(features, affine=True)


class Residual(nn.Module):
    """Two normalized convolutions beside a skip."""

    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            _norm(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            _norm(width),
        )

    def forward(self, x):
        return x + self.body(x)


class Generator(nn.Module):
    """Pictures [B, C, H, W] and labels [B, K] to pictures."""

    def __init__(self, config, channels: int, labels: int):
        super().__init__()
        width = config.width
        layers = [nn.Conv2d(channels + labels, width, 7, padding=3, bias=False), _norm(width)]
        layers.append(nn.ReLU(inplace=True))
        for _ in range(2):
            layers += [nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False), _norm(2 * width)]
            layers.append(nn.ReLU(inplace=True))
            width *= 2
        layers += [Residual(width) for _ in range(config.blocks)]
        for _ in range(2):
            layers += [nn.ConvTranspose2d(width, width // 2, 4, 2, 1, bias=False)]
            layers += [_norm(width // 2), nn.ReLU(inplace=True)]
            width //= 2
        self.body = nn.Sequential(*layers, nn.Conv2d(width, channels, 7, padding=3, bias=False))

    def forward(self, x, label):
        planes = label[:, :, None, None].expand(*label.shape, *x.shape[2:])
        return torch.tanh(self.body(torch.cat([x, planes], 1)))


class Discriminator(nn.Module):
    """Pictures [B, C, H, W] to scores of patches [B, h, w], and logits of the labels [B, K]."""

    def __init__(self, config, size: int, channels: int, labels: int):
        super().__init__()
        layers, width = [], config.discriminator_width
        for _ in range(config.discriminator_layers):
            if size % 2:
                break
            layers += [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.01, inplace=True)]
            channels, width, size = width, 2 * width, size // 2
        self.body = nn.Sequential(*layers)
        self.source = nn.Conv2d(channels, 1, 3, padding=1, bias=False)
        self.label = nn.Conv2d(channels, labels, size, bias=False)

    def forward(self, x):
        x = self.body(x)
        return self.source(x)[:, 0], self.label(x)[:, :, 0, 0]


def networks(config, size: int, channels: int, labels: int) -> Networks:
    """The networks of `jaxgan.models.stargan`."""
    return Networks(
        Generator(config, channels, labels), Discriminator(config, size, channels, labels)
    )


def discriminator_loss(
    d: nn.Module, x: Tensor, label: Tensor, fake: Tensor, t: Tensor, config
) -> Tensor:
    """The critic's loss on pictures x of classes and on generated ones; t [B, 1, 1, 1] mixes."""
    source, logits = d(x)
    mixture = torch.lerp(fake, x, t).requires_grad_(True)
    (slope,) = torch.autograd.grad(d(mixture)[0].sum(), mixture, create_graph=True)
    penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    loss = d(fake)[0].mean() - source.mean() + config.penalty * penalty
    return loss + config.label_weight * F.cross_entropy(logits, label)


def generator_loss(
    g: nn.Module, d: nn.Module, x: Tensor, label: Tensor, target: Tensor, config
) -> Tensor:
    """The generator's loss for pictures x of classes that are to become others."""
    fake = g(x, target)
    source, logits = d(fake)
    loss = config.label_weight * F.cross_entropy(logits, target) - source.mean()
    return loss + config.reconstruction * (x - g(fake, label)).abs().mean()


def training(
    networks: Networks, config, images: Tensor, labels: Tensor, batch_size: int, setting: Setting
) -> Callable[[], Tensor]:
    """Returns a function that runs one iteration and gives the last loss; see `torch_models`."""
    layout = torch.channels_last if setting.channels_last else torch.contiguous_format
    images = images.to(setting.device).contiguous(memory_format=layout)
    labels = labels.to(setting.device)
    g, d = (module.to(setting.device, memory_format=layout).train() for module in networks)
    g_adam, d_adam = (
        torch.optim.Adam(
            network.parameters(),
            config.learning_rate,
            (config.beta1, config.beta2),
            fused=setting.fused_adam or None,
        )
        for network in (g, d)
    )

    def step():
        for _ in range(config.n_critic):
            chosen = torch.randint(len(images), (batch_size,), device=setting.device)
            x, label = images[chosen].float().div_(127.5).sub_(1), labels[chosen]
            with torch.no_grad():
                fake = g(x, label[torch.randperm(batch_size, device=setting.device)])
            t = torch.rand(batch_size, 1, 1, 1, device=setting.device)
            minimize(d_adam, discriminator_loss(d, x, label, fake, t, config))
        d.requires_grad_(False)
        target = label[torch.randperm(batch_size, device=setting.device)]
        loss = minimize(g_adam, generator_loss(g, d, x, label, target, config))
        d.requires_grad_(True)
        return loss

    return step
