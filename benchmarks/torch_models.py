"""jaxgan's models as a PyTorch user writes them: the other side of `peers.py`.

The networks are the same ones, layer for layer; `tests/stored/networks.py` carries weights across,
and `tests/models/test_networks.py` compares what they compute. The steps compute the same, too: new
latents for the generator's update, as the course on anime faces and the tutorial on MNIST draw them
(PyTorch's own DCGAN example moves the generator on the images that the discriminator has just seen,
which saves a pass and is another algorithm: `reuse_images`), and the discriminator is frozen while
the generator moves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm


class Setting(NamedTuple):
    """How PyTorch is run; see `peers.py` for what was tried."""

    device: str
    channels_last: bool
    fused_adam: bool
    reuse_images: bool = False  # the generator is moved on the discriminator's images


def minimize(optimizer: torch.optim.Optimizer, loss: Tensor) -> Tensor:
    """Takes a step down a loss, and returns its value."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach()


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


def _conv(inputs: int, outputs: int, kernel: int, *, bias: bool = True) -> nn.Module:
    return spectral_norm(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias))


class ConditionalNorm(nn.Module):
    """Batch normalization whose scale and bias depend on the label."""

    def __init__(self, features: int, labels: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(features, affine=False)
        self.scale = nn.Linear(labels, features, bias=False)
        self.bias = nn.Linear(labels, features, bias=False)
        nn.init.zeros_(self.scale.weight)
        nn.init.zeros_(self.bias.weight)

    def forward(self, x, label):
        scale, bias = 1 + self.scale(label), self.bias(label)
        return torch.addcmul(bias[:, :, None, None], scale[:, :, None, None], self.norm(x))


class Attention(nn.Module):
    """Self-attention with keys and values pooled."""

    def __init__(self, channels: int):
        super().__init__()
        self.query = _conv(channels, channels // 8, 1, bias=False)
        self.key = _conv(channels, channels // 8, 1, bias=False)
        self.value = _conv(channels, channels // 2, 1, bias=False)
        self.out = _conv(channels // 2, channels, 1, bias=False)
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        query = self.query(x).flatten(2)
        key = F.max_pool2d(self.key(x), 2).flatten(2)
        value = F.max_pool2d(self.value(x), 2).flatten(2)
        weights = torch.bmm(query.transpose(1, 2), key).softmax(-1)
        read = torch.bmm(value, weights.transpose(1, 2)).unflatten(2, x.shape[2:])
        return x + self.gain * self.out(read)


class Up(nn.Module):
    """A residual block of SAGAN's generator."""

    def __init__(self, inputs: int, outputs: int, labels: int):
        super().__init__()
        self.norms = nn.ModuleList([ConditionalNorm(c, labels) for c in (inputs, outputs)])
        self.first, self.second = _conv(inputs, outputs, 3), _conv(outputs, outputs, 3)
        self.skip = _conv(inputs, outputs, 1)

    def forward(self, x, label):
        y = F.interpolate(F.relu(self.norms[0](x, label)), scale_factor=2)
        y = self.second(F.relu(self.norms[1](self.first(y), label)))
        return y + F.interpolate(self.skip(x), scale_factor=2)


class Down(nn.Module):
    """A residual block of SAGAN's discriminator; the first sees pixels, the last halves nothing."""

    def __init__(self, inputs: int, outputs: int, *, sees_pixels: bool, halve: bool):
        super().__init__()
        self.sees_pixels, self.halve = sees_pixels, halve
        self.first, self.second = _conv(inputs, outputs, 3), _conv(outputs, outputs, 3)
        self.skip = _conv(inputs, outputs, 1) if halve else None

    def forward(self, x):
        y = self.second(F.relu(self.first(x if self.sees_pixels else F.relu(x))))
        if self.halve:
            x, y = self.skip(F.avg_pool2d(x, 2)), F.avg_pool2d(y, 2)
        return x + y


class AttentiveGenerator(nn.Module):
    """The generator of `jaxgan.models.sagan` with labels."""

    def __init__(self, config, size: int, channels: int, labels: int):
        super().__init__()
        doublings = (size // 4).bit_length() - 1
        widths = [config.width * min(2**i, 16) for i in reversed(range(doublings))]
        self.top = widths[0]
        self.linear = spectral_norm(nn.Linear(config.latent_size, 16 * widths[0]))
        self.blocks = nn.ModuleList(
            Up(inputs, outputs, labels)
            for inputs, outputs in zip([widths[0], *widths], widths, strict=False)
        )
        self.side, number = _attending(config, size)
        self.attention = Attention(widths[max(0, doublings - number - 1)])
        self.norm = nn.BatchNorm2d(widths[-1])
        self.last = _conv(widths[-1], channels, 3)

    def forward(self, z, label):
        x = self.linear(z).unflatten(1, (self.top, 4, 4))
        for block in self.blocks:
            if x.shape[-1] == self.side:
                x = self.attention(x)
            x = block(x, label)
        return torch.tanh(self.last(F.relu(self.norm(x))))


class Projection(nn.Module):
    """What the label adds to the score."""

    def __init__(self, features: int, labels: int):
        super().__init__()
        self.embed = spectral_norm(nn.Linear(labels, features, bias=False))

    def forward(self, features, label):
        return (features * self.embed(label)).sum(1)


class AttentiveDiscriminator(nn.Module):
    """The discriminator of `jaxgan.models.sagan` with labels."""

    def __init__(self, config, size: int, channels: int, labels: int):
        super().__init__()
        halved = (size // 4).bit_length() - 1
        widths = [config.width * min(2**i, 16) for i in range(halved)]
        self.blocks = nn.ModuleList(
            Down(inputs, outputs, sees_pixels=i == 0, halve=True)
            for i, (inputs, outputs) in enumerate(zip([channels, *widths], widths, strict=False))
        )
        self.blocks.append(Down(widths[-1], widths[-1], sees_pixels=False, halve=False))
        self.side, number = _attending(config, size)
        self.attention = Attention(widths[number - 1])
        self.linear = spectral_norm(nn.Linear(widths[-1], 1))
        self.projection = Projection(widths[-1], labels)

    def forward(self, x, label):
        for number, block in enumerate(self.blocks, 1):
            x = block(x)
            if x.shape[-1] == self.side and number < len(self.blocks):
                x = self.attention(x)
        features = F.relu(x).sum((2, 3))
        return self.linear(features)[:, 0] + self.projection(features, label)


def _attending(config, size: int) -> tuple[int, int]:
    """The side of the map that attends, and how often the image is halved to it."""
    side = min(max(config.attention), size // 2)
    return side, (size // side).bit_length() - 1


def sagan(config, size: int, channels: int, labels: int) -> Networks:
    """The networks of `jaxgan.models.sagan` at a power of two."""
    return Networks(
        AttentiveGenerator(config, size, channels, labels),
        AttentiveDiscriminator(config, size, channels, labels),
    )


def move_vectors(network: nn.Module, move: bool) -> None:
    """Whether each further pass in training moves the vectors of spectral normalization."""
    for module in network.modules():
        if isinstance(module, parametrize.ParametrizationList):
            module.train(move)


NETWORKS = {"gan": mlp, "dcgan": dcgan, "wgan_gp": wgan_gp, "improved": improved, "sagan": sagan}


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
    rate = getattr(config, "discriminator_learning_rate", None) or config.learning_rate
    d_adam = torch.optim.Adam(d.parameters(), rate, betas, fused=fused)

    def real():
        chosen = torch.randint(len(images), (batch_size,), device=setting.device)
        image = images[chosen].float().div_(127.5).sub_(1)
        return image, None if labels is None else labels[chosen]

    def latents():
        return torch.randn(batch_size, config.latent_size, device=setting.device)

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

    def hinge():
        image, label = real()
        with torch.no_grad():
            fake = g(latents(), label)
        # As in the official code, one pass of its own moves each player's vectors.
        move_vectors(d, True)
        loss = F.relu(1 - d(image, label)).mean()
        move_vectors(d, False)
        minimize(d_adam, loss + F.relu(1 + d(fake, label)).mean())
        d.requires_grad_(False)
        move_vectors(g, True)
        fake = g(latents(), label)
        move_vectors(g, False)
        loss = minimize(g_adam, -d(fake, label).mean())
        d.requires_grad_(True)
        return loss

    move_vectors(g, False)
    steps = {"wgan_gp": wasserstein, "improved": classes_and_generated, "sagan": hinge}
    return steps.get(model, minimax)


def _gradient_penalty(d: Callable, real: Tensor, fake: Tensor) -> Tensor:
    t = torch.rand(len(real), 1, 1, 1, device=real.device)
    mixture = torch.lerp(fake, real, t).requires_grad_(True)
    (slope,) = torch.autograd.grad(d(mixture).sum(), mixture, create_graph=True)
    return (slope.flatten(1).norm(dim=1) - 1).square().mean()
