"""StyleGAN2 in PyTorch as the paper writes it: a kernel for each example, filters as convolutions.

It reads jaxgan's parameters, as trees of tensors, and shares none of its ways to compute.
"""

import math

import torch
import torch.nn.functional as F


def generator(params, z, label, noise):
    """Images [B, C, H, W] of latents [B, Z], labels [B, K] or None, noise [B, 1, h, w] a layer."""
    w = mapping(params["mapping"], z, label)
    layers = len(noise) + 1
    return synthesis(params["synthesis"], w[:, None].repeat(1, layers, 1), noise)


def mapping(p, z, label):
    x = _normalised(z)
    if label is not None:
        x = torch.cat([x, _normalised(_dense(p["embed"], label))], 1)
    for number in range(sum(name.startswith("dense") for name in p)):
        x = _lrelu(_dense(p[f"dense_{number}"], x, 0.01))
    return x


def synthesis(p, w, noise):
    """Images of w [B, layers, F]."""
    x = p["start"].permute(2, 0, 1).repeat(len(w), 1, 1, 1)
    image = None
    for layer in range(len(noise)):
        up = layer % 2 == 1
        conv = p[f"StyledConv_{layer}"]
        x = _modulated(conv["ModulatedConv_0"], x, w[:, layer], up=up, demodulate=True)
        x = x + conv["Noise_0"]["strength"] * noise[layer]
        x = _lrelu(x + conv["bias"][:, None, None])
        if up:
            continue
        rgb = p[f"ToRGB_{layer // 2}"]
        colours = _modulated(rgb, x, w[:, layer + 1], up=False, demodulate=False)
        colours = colours + rgb["bias"][:, None, None]
        image = colours if image is None else colours + _upsample(image)
    return image


def discriminator(p, image, label, group):
    """Scores [B] of images [B, C, H, W]."""
    convs = sum(name.startswith("EqualizedConv") for name in p)
    x = _lrelu(_conv(p["EqualizedConv_0"], image))
    for first in range(1, convs - 1, 3):
        y = _lrelu(_conv(p[f"EqualizedConv_{first}"], x, padding=1))
        y = _lrelu(_conv(p[f"EqualizedConv_{first + 1}"], _filtered(y, 2, 2), stride=2))
        x = _conv(p[f"EqualizedConv_{first + 2}"], _filtered(x, 1, 1), stride=2)
        x = (x + y) / math.sqrt(2)
    groups = x.reshape(-1, group, *x.shape[1:])
    deviation = (groups.var(1, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3))
    plane = deviation.repeat_interleave(group)[:, None, None, None].expand(-1, 1, 4, 4)
    x = _lrelu(_conv(p[f"EqualizedConv_{convs - 1}"], torch.cat([x, plane], 1), padding=1))
    x = _lrelu(_dense(p["EqualizedDense_0"], x.permute(0, 2, 3, 1).flatten(1)))
    x = _dense(p["EqualizedDense_1"], x)
    if label is None:
        return x[:, 0]
    p = p["LabelMapping_0"]
    y = _normalised(_dense(p["EqualizedDense_0"], label))
    for number in range(1, len(p)):
        y = _lrelu(_dense(p[f"EqualizedDense_{number}"], y, 0.01))
    return (x * y).sum(1) / math.sqrt(y.shape[1])


def _normalised(x):
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


def _lrelu(x):
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def _dense(p, x, rate=1.0):
    return x @ (p["kernel"] * rate / math.sqrt(x.shape[1])) + p["bias"] * rate


def _conv(p, x, **where):
    kernel = p["kernel"].permute(3, 2, 0, 1)
    return F.conv2d(x, kernel / math.sqrt(kernel[0].numel()), p.get("bias"), **where)


def _modulated(p, x, w, *, up, demodulate):
    """One grouped convolution, with a group for each example."""
    batch, inputs, height, width = x.shape
    kernel = p["kernel"].permute(3, 2, 0, 1)
    style = _dense(p["affine"], w)
    if not demodulate:
        style = style / math.sqrt(inputs)
    kernel = kernel[None] * style[:, None, :, None, None]
    if demodulate:
        kernel = kernel * (kernel.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    outputs, size = kernel.shape[1], kernel.shape[-1]
    x = x.reshape(1, -1, height, width)
    if up:
        kernel = kernel.transpose(1, 2).reshape(-1, outputs, size, size)
        x = F.conv_transpose2d(x, kernel, stride=2, groups=batch)
        return 4 * _filtered(x.reshape(batch, outputs, *x.shape[2:]), 1, 1)
    kernel = kernel.reshape(-1, inputs, size, size)
    x = F.conv2d(x, kernel, padding=size // 2, groups=batch)
    return x.reshape(batch, outputs, height, width)


def _upsample(x):
    batch, channels, height, width = x.shape
    apart = x.new_zeros(batch, channels, height, 2, width, 2)
    apart[:, :, :, 0, :, 0] = x
    return 4 * _filtered(apart.reshape(batch, channels, 2 * height, 2 * width), 2, 1)


def _filtered(x, before, after):
    """With the taps 1, 3, 3, 1 in both directions."""
    taps = x.new_tensor([1, 3, 3, 1]) / 8
    kernel = torch.outer(taps, taps).repeat(x.shape[1], 1, 1, 1)
    return F.conv2d(F.pad(x, (before, after) * 2), kernel, groups=x.shape[1])
