"""StyleGAN2 as a PyTorch user trains it, without compiled operators: the other side of `peers.py`.

The networks are those of `jaxgan.models.stylegan2`. Modulated convolutions scale the maps, and
filters are depthwise convolutions, as in the official PyTorch code when it trains where its own
operators cannot be compiled.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_models import Networks, Setting, minimize


class Dense(nn.Module):
    def __init__(self, inputs: int, outputs: int, rate: float = 1.0, bias: float = 0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias))
        self.rate = rate

    def forward(self, x):
        gain = self.rate / math.sqrt(x.shape[1])
        return F.linear(x, self.weight * gain, self.bias * self.rate)


class Conv(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, down=False, bias=True):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.gain, self.half, self.down = 1 / math.sqrt(inputs * kernel**2), kernel // 2, down

    def forward(self, x):
        weight = self.weight * self.gain
        if not self.down:
            return F.conv2d(x, weight, self.bias, padding=self.half)
        if self.half == 0:
            return F.conv2d(_filter(x, 1, 1, stride=2), weight, self.bias)
        return F.conv2d(_filter(x, 2, 2), weight, self.bias, stride=2)


class StyledConv(nn.Module):
    def __init__(self, features: int, inputs: int, outputs: int, up: bool):
        super().__init__()
        self.affine = Dense(features, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.up = up

    def forward(self, x, w, noise=None):
        style = self.affine(w)
        x = x * style[:, :, None, None]
        if self.up:
            x = F.conv_transpose2d(x, self.weight.transpose(0, 1), stride=2)
            x = _filter(x, 1, 1, gain=4)
        else:
            x = F.conv2d(x, self.weight, padding=1)
        scale = (style.square() @ self.weight.square().sum((2, 3)).T + 1e-8).rsqrt()
        if noise is None:
            noise = torch.randn(len(x), 1, *x.shape[2:], device=x.device)
        x = torch.addcmul(noise * self.strength, x, scale[:, :, None, None])
        return _lrelu(x + self.bias[:, None, None])


class ToRGB(nn.Module):
    def __init__(self, features: int, inputs: int, outputs: int):
        super().__init__()
        self.affine = Dense(features, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x, w):
        style = self.affine(w) / math.sqrt(x.shape[1])
        return F.conv2d(x * style[:, :, None, None], self.weight, self.bias)


class Generator(nn.Module):
    def __init__(self, config, widths, channels, labels):
        super().__init__()
        features, self.mixing, self.layers = config.mapping_width, config.mixing, 2 * len(widths)
        self.embed = Dense(labels, features) if labels else None
        inputs = config.latent_size + (features if labels else 0)
        sizes = [inputs] + [features] * config.mapping_layers
        pairs = zip(sizes, sizes[1:], strict=False)
        self.mapping = nn.ModuleList(Dense(*pair, rate=0.01) for pair in pairs)
        self.start = nn.Parameter(torch.randn(widths[0], 4, 4))
        pairs = [(widths[0], widths[0])]
        for below, above in zip(widths, widths[1:], strict=False):
            pairs += [(below, above), (above, above)]
        self.convs = nn.ModuleList(
            StyledConv(features, *pair, up=number % 2 == 1) for number, pair in enumerate(pairs)
        )
        self.colors = nn.ModuleList(ToRGB(features, width, channels) for width in widths)
        self.register_buffer("average", torch.zeros(features))

    def w(self, z, label=None, move=False):
        x = _normalized(z)
        if self.embed is not None:
            x = torch.cat([x, _normalized(self.embed(label))], 1)
        for dense in self.mapping:
            x = _lrelu(dense(x))
        if move:
            self.average.lerp_(x.detach().mean(0), 0.005)
        return x[:, None].expand(-1, self.layers, -1)

    def mixed(self, z, label=None, move=False):
        w = self.w(z, label, move)
        if not self.mixing:
            return w
        cut = torch.randint(1, self.layers, (len(z), 1, 1), device=z.device)
        cut = cut.masked_fill(torch.rand(cut.shape, device=z.device) >= self.mixing, self.layers)
        kept = torch.arange(self.layers, device=z.device)[:, None] < cut
        return torch.where(kept, w, self.w(torch.randn_like(z), label))

    def synthesize(self, w, noise=None):
        x, image = self.start.expand(len(w), -1, -1, -1), None
        for layer, conv in enumerate(self.convs):
            x = conv(x, w[:, layer], None if noise is None else noise[layer])
            if layer % 2 == 0:
                colors = self.colors[layer // 2](x, w[:, layer + 1])
                image = colors if image is None else _upsample(image) + colors
        return image

    def forward(self, z, label=None, move=False):
        return self.synthesize(self.mixed(z, label, move))


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.first = Conv(inputs, inputs, 3)
        self.second = Conv(inputs, outputs, 3, down=True)
        self.skip = Conv(inputs, outputs, 1, down=True, bias=False)

    def forward(self, x):
        y = _lrelu(self.second(_lrelu(self.first(x))))
        return (self.skip(x) + y) * math.sqrt(0.5)


class Discriminator(nn.Module):
    def __init__(self, widths, channels, group, labels):
        super().__init__()
        self.colors = Conv(channels, widths[-1], 1)
        pairs = zip(widths[:0:-1], widths[-2::-1], strict=True)
        self.blocks = nn.ModuleList(Block(*pair) for pair in pairs)
        self.last = Conv(widths[0] + 1, widths[0], 3)
        self.dense = Dense(16 * widths[0], widths[0])
        self.out = Dense(widths[0], widths[0] if labels else 1)
        sizes = [(labels, 1.0)] + [(widths[0], 0.01)] * 8 if labels else []
        self.labels = nn.ModuleList(Dense(inputs, widths[0], rate) for inputs, rate in sizes)
        self.group = group

    def forward(self, x, label=None):
        x = _lrelu(self.colors(x))
        for block in self.blocks:
            x = block(x)
        y = x.reshape(-1, self.group, *x.shape[1:]).var(1, unbiased=False)
        y = (y + 1e-8).sqrt().mean((1, 2, 3)).repeat_interleave(self.group)
        x = torch.cat([x, y[:, None, None, None].expand(-1, 1, *x.shape[2:])], 1)
        x = _lrelu(self.last(x))
        x = self.out(_lrelu(self.dense(x.flatten(1))))
        if not self.labels:
            return x[:, 0]
        y = _normalized(self.labels[0](label))
        for dense in self.labels[1:]:
            y = _lrelu(dense(y))
        return (x * y).sum(1) / math.sqrt(y.shape[1])


def stylegan2(config, size: int, channels: int, labels: int = 0) -> Networks:
    """The networks of `jaxgan.models.stylegan2`, for a config without None."""
    sides = [2**n for n in range(2, size.bit_length())]
    widths = [min(config.channel_base // side, config.max_width) for side in sides]
    return Networks(
        Generator(config, widths, channels, labels),
        Discriminator(widths, channels, config.group, labels),
    )


def training(
    networks: Networks, config, images: Tensor, batch_size: int, setting: Setting
) -> Callable[[], Tensor]:
    """Returns a function that runs one iteration, lazy terms where they are due."""
    layout = torch.channels_last if setting.channels_last else torch.contiguous_format
    images = images.to(setting.device).contiguous(memory_format=layout)
    g, d = (module.to(setting.device, memory_format=layout).train() for module in networks)
    average = copy.deepcopy(g).requires_grad_(False)
    adams = []
    for module, rate, every in (
        (g, config.learning_rate, config.path_every),
        (d, config.discriminator_learning_rate, config.r1_every),
    ):
        c = every / (every + 1)
        betas = (config.beta1**c, config.beta2**c)
        fused = setting.fused_adam or None
        adams.append(torch.optim.Adam(module.parameters(), rate * c, betas, fused=fused))
    g_adam, d_adam = adams
    path_mean = torch.zeros((), device=setting.device)
    step = 0

    def latents(count):
        return torch.randn(count, config.latent_size, device=setting.device)

    def path_length():
        w = g.mixed(latents(batch_size // config.path_shrink), move=True)
        w = w.contiguous()
        image = g.synthesize(w)
        y = torch.randn_like(image) / math.sqrt(image.shape[2] * image.shape[3])
        (slope,) = torch.autograd.grad((image * y).sum(), w, create_graph=True)
        lengths = slope.square().sum(2).mean(1).sqrt()
        mean = path_mean.lerp(lengths.mean(), config.path_decay)
        path_mean.copy_(mean.detach())
        return config.path_weight * config.path_every * (lengths - mean).square().mean()

    def iterate():
        nonlocal step
        d.requires_grad_(False)
        loss = minimize(g_adam, F.softplus(-d(g(latents(batch_size), move=True))).mean())
        if step % config.path_every == 0:
            minimize(g_adam, path_length())
        d.requires_grad_(True)
        chosen = torch.randint(len(images), (batch_size,), device=setting.device)
        real = images[chosen].float().div_(127.5).sub_(1)
        with torch.no_grad():
            fake = g(latents(batch_size))
        minimize(d_adam, F.softplus(-d(real)).mean() + F.softplus(d(fake)).mean())
        if step % config.r1_every == 0:
            real.requires_grad_()
            (slope,) = torch.autograd.grad(d(real).sum(), real, create_graph=True)
            penalty = slope.square().sum((1, 2, 3)).mean() / 2
            minimize(d_adam, config.gamma * config.r1_every * penalty)
        step += 1
        half_life = min(config.ema_half_life, config.ema_ramp_up * batch_size * step)
        with torch.no_grad():
            torch._foreach_lerp_(
                list(average.parameters()),
                list(g.parameters()),
                1 - 0.5 ** (batch_size / half_life),
            )
        return loss

    return iterate


def _normalized(x):
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


def _lrelu(x):
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def _filter(x, before, after, gain=1.0, stride=1):
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], device=x.device) / 8
    kernel = (torch.outer(taps, taps) * gain).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(F.pad(x, (before, after) * 2), kernel, stride=stride, groups=x.shape[1])


def _upsample(x):
    batch, channels, height, width = x.shape
    x = F.pad(x[:, :, :, None, :, None], (0, 1, 0, 0, 0, 1))
    return _filter(x.reshape(batch, channels, 2 * height, 2 * width), 2, 1, gain=4)
