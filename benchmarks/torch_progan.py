"""jaxgan's ProGAN at one size as a PyTorch user writes it: the other side of `peers.py`.

The same networks, layer for layer, without those of smaller sizes; doubling and halving are layers
of their own, as in the usual ports, where jaxgan (as the official code) has one kernel for both.
A step is the critic's update with gradient penalty and drift, the generator's, and its average.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_models import Networks, Setting, minimize


class Conv(nn.Module):
    """A convolution with equalized learning rate that keeps the size."""

    def __init__(self, inputs: int, outputs: int, kernel: int, gain: float):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale = gain / math.sqrt(inputs * kernel**2)

    def forward(self, x):
        return F.conv2d(x, self.weight * self.scale, self.bias, padding=self.weight.shape[-1] // 2)


class Linear(nn.Module):
    """A linear layer with equalized learning rate."""

    def __init__(self, inputs: int, outputs: int, gain: float, *, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.scale = gain / math.sqrt(inputs)

    def forward(self, x):
        return F.linear(x, self.weight * self.scale, self.bias)


def _pixel_norm(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


def _features(width: int, side: int) -> int:
    return max(1, width * 32 // max(32, side))


def _sides(size: int) -> list[int]:
    return [4 * 2**n for n in range(1, (size // 4).bit_length())]


class Generator(nn.Module):
    """[B, Z] to [B, C, size, size]."""

    def __init__(self, config, size: int, channels: int):
        super().__init__()
        gain = math.sqrt(2)
        width = _features(config.width, 4)
        self.dense = Linear(config.latent_size, 16 * width, gain / 4, bias=False)
        self.bias = nn.Parameter(torch.zeros(width))
        self.conv = Conv(width, width, 3, gain)
        self.ups = nn.ModuleList()
        for side in _sides(size):
            before, width = width, _features(config.width, side)
            self.ups.append(
                nn.ModuleList([Conv(before, width, 3, gain), Conv(width, width, 3, gain)])
            )
        self.image = Conv(width, channels, 1, 1.0)

    def forward(self, z, label=None):
        x = self.dense(_pixel_norm(z)).unflatten(1, (-1, 4, 4)) + self.bias[:, None, None]
        x = _pixel_norm(F.leaky_relu(x, 0.2))
        x = _pixel_norm(F.leaky_relu(self.conv(x), 0.2))
        for first, second in self.ups:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = _pixel_norm(F.leaky_relu(first(x), 0.2))
            x = _pixel_norm(F.leaky_relu(second(x), 0.2))
        return self.image(x)


class Discriminator(nn.Module):
    """[B, C, size, size] to [B]."""

    def __init__(self, config, size: int, channels: int):
        super().__init__()
        gain, self.group = math.sqrt(2), config.group
        width = _features(config.width, size)
        self.image = Conv(channels, width, 1, gain)
        self.downs = nn.ModuleList()
        for side in reversed(_sides(size)):
            after = _features(config.width, side // 2)
            self.downs.append(
                nn.ModuleList([Conv(width, width, 3, gain), Conv(width, after, 3, gain)])
            )
            width = after
        self.conv = Conv(width + 1, width, 3, gain)
        self.dense = Linear(16 * width, width, gain)
        self.heads = Linear(width, 1, 1.0)

    def forward(self, x, label=None):
        x = F.leaky_relu(self.image(x), 0.2)
        for first, second in self.downs:
            x = F.leaky_relu(first(x), 0.2)
            x = F.leaky_relu(F.avg_pool2d(second(x), 2), 0.2)
        groups = x.unflatten(0, (-1, self.group))
        deviation = (groups.var(1, correction=0) + 1e-8).sqrt().mean((1, 2, 3))
        plane = deviation.repeat_interleave(self.group)[:, None, None, None]
        x = torch.cat([x, plane.expand(-1, 1, *x.shape[2:])], 1)
        x = F.leaky_relu(self.conv(x), 0.2)
        return self.heads(F.leaky_relu(self.dense(x.flatten(1)), 0.2))[:, 0]


def networks(config, size: int, channels: int, labels: int = 0) -> Networks:
    """The networks of `jaxgan.models.progan` that start at `size`, without labels."""
    return Networks(Generator(config, size, channels), Discriminator(config, size, channels))


def training(
    networks: Networks, config, images: Tensor, batch_size: int, setting: Setting
) -> Callable[[], Tensor]:
    """Returns a function that runs one iteration and gives the last loss.

    Args:
      networks: what to train, in place.
      config: jaxgan's Config.
      images: [N, C, H, W] uint8.
      batch_size: of each update.
      setting: how.
    """
    layout = torch.channels_last if setting.channels_last else torch.contiguous_format
    images = images.to(setting.device).contiguous(memory_format=layout)
    g, d = (module.to(setting.device, memory_format=layout).train() for module in networks)
    average = copy.deepcopy(g).requires_grad_(False)
    betas, fused = (config.beta1, config.beta2), setting.fused_adam or None
    g_adam, d_adam = (
        torch.optim.Adam(module.parameters(), config.learning_rate, betas, fused=fused)
        for module in (g, d)
    )

    def latents():
        return torch.randn(batch_size, config.latent_size, device=setting.device)

    def step():
        chosen = torch.randint(len(images), (batch_size,), device=setting.device)
        real = images[chosen].float().div_(127.5).sub_(1)
        with torch.no_grad():
            fake = g(latents())
        on_real = d(real)
        loss = d(fake).mean() - on_real.mean() + config.drift * on_real.square().mean()
        t = torch.rand(batch_size, 1, 1, 1, device=setting.device)
        mixture = torch.lerp(fake, real, t).requires_grad_(True)
        (slope,) = torch.autograd.grad(d(mixture).sum(), mixture, create_graph=True)
        penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
        minimize(d_adam, loss + config.penalty * penalty)
        d.requires_grad_(False)
        loss = minimize(g_adam, -d(g(latents())).mean())
        d.requires_grad_(True)
        with torch.no_grad():
            torch._foreach_lerp_([*average.parameters()], [*g.parameters()], 1 - config.ema_decay)
        return loss

    return step
