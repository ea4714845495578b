"""PyTorch's numbers for the layers, and the inputs they belong to, which tests draw anew.

Inputs and numbers are laid out as in this library: maps [B, H, W, C] and kernels [k, k, I, O], for
transposed convolutions [k, k, O, I]. A gradient is that of the sum of the sines of the output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

Arrays = Mapping[str, np.ndarray]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Standard normal numbers, float32."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# Name in PyTorch, then kernel, stride, padding and output padding.
CONVS = [
    *(("Conv2d", *case) for case in [(5, 2, 2), (4, 2, 1), (3, 1, 1), (4, 1, 0)]),
    *(("Conv3d", *case) for case in [(4, 2, 1), (3, 1, 1)]),
    *(("ConvTranspose2d", *c) for c in [(5, 2, 2, 1), (4, 2, 1, 0), (4, 1, 0, 0), (3, 2, 1, 1)]),
    *(("ConvTranspose3d", *case) for case in [(4, 2, 1, 0), (3, 2, 1, 1)]),
]
SPECTRAL = [
    ("Linear",),
    ("Conv2d", 3, 2, 1),
    ("Conv3d", 2, 1, 0),
    ("ConvTranspose2d", 3, 2, 1, 1),
    ("ConvTranspose3d", 2, 1, 0, 0),
]
INPUTS, OUTPUTS = 3, 2


def layer_inputs(name: str, kernel: int = 1, *_: int) -> Arrays:
    """x, kernel and bias of a layer of PyTorch with `INPUTS` channels into `OUTPUTS`."""
    rank = 0 if name == "Linear" else int(name[-2])
    channels = (OUTPUTS, INPUTS) if "Transpose" in name else (INPUTS, OUTPUTS)
    return {
        "x": normal(2, *[(1, 1, 5, 4)[rank]] * rank, INPUTS, seed=rank),
        "kernel": normal(*[kernel] * rank, *channels, seed=4),
        "bias": normal(OUTPUTS, seed=5),
    }


def spectral_vectors(*case) -> Arrays:
    """u [features], and v [inputs] that one step of the power iteration gives."""
    axis = -2 if "Transpose" in case[0] else -1
    u = normal(OUTPUTS, seed=6)
    u /= np.linalg.norm(u)
    v = np.moveaxis(layer_inputs(*case)["kernel"], axis, -1).reshape(-1, OUTPUTS) @ u
    return {"u": u, "v": v / np.linalg.norm(v)}


def batch_norm_inputs() -> np.ndarray:
    """Four batches [4, 6, 2, 3, 5]."""
    return 1 + 3 * normal(4, 6, 2, 3, 5)


def similarity_inputs() -> np.ndarray:
    """[12, 3, 2]."""
    return normal(12, 3, 2)


def weight_norm_inputs() -> Arrays:
    """A batch [6, 5], and a layer of 5 inputs and 3 outputs."""
    return {
        "x": normal(6, 5),
        "kernel": normal(5, 3, seed=1),
        "scale": normal(3, seed=2),
        "bias": normal(3, seed=3),
    }


def grouped_inputs() -> Arrays:
    """Three groups of 4 channels into 2."""
    return {"x": normal(2, 4, 5, 12), "kernel": normal(3, 3, 4, 6, seed=1) / 6}


def resample_inputs() -> Arrays:
    """A map of odd sides, and a kernel."""
    return {"x": normal(2, 5, 7, 3), "kernel": normal(3, 3, 3, 4, seed=1)}


def modulated_inputs() -> Arrays:
    """A map, a kernel and a style [B, I]."""
    return {
        "x": normal(3, 4, 6, 5),
        "kernel": normal(3, 3, 5, 7, seed=1),
        "style": normal(3, 5, seed=2),
    }


def _first(x):
    """[B, ..., C] -> [B, C, ...], as a tensor that has a gradient."""
    import torch

    return torch.tensor(np.ascontiguousarray(np.moveaxis(x, -1, 1)), requires_grad=True)


def _last(x):
    return np.moveaxis(x.detach().numpy(), 1, -1)


def _weight(kernel):
    """[*k, a, b] -> [b, a, *k], as a tensor that has a gradient."""
    import torch

    weight = kernel.transpose(-1, -2, *range(kernel.ndim - 2))
    return torch.tensor(np.ascontiguousarray(weight), requires_grad=True)


def _kernel(weight):
    weight = weight.detach().numpy()
    return weight.transpose(*range(2, weight.ndim), 1, 0)


def _slope(out):
    import torch

    torch.sin(out).sum().backward()


def _layer(case):
    """A layer of PyTorch with those parameters, and its input."""
    import torch

    name, *arguments = case
    inputs = layer_inputs(*case)
    layer = getattr(torch.nn, name)(INPUTS, OUTPUTS, *arguments)
    with torch.no_grad():
        layer.weight.copy_(_weight(inputs["kernel"]))
        layer.bias.copy_(torch.tensor(inputs["bias"]))
    return layer, _first(inputs["x"])


def torch_conv() -> Arrays:
    """Outputs and gradients of `CONVS`."""
    numbers = {}
    for number, case in enumerate(CONVS):
        layer, x = _layer(case)
        out = layer(x)
        _slope(out)
        numbers |= {
            f"{number}.out": _last(out),
            f"{number}.x": _last(x.grad),
            f"{number}.kernel": _kernel(layer.weight.grad),
        }
    return numbers


def torch_spectral() -> Arrays:
    """Outputs and gradients of `SPECTRAL`, with u and v of `spectral_vectors`."""
    import torch

    numbers = {}
    for number, case in enumerate(SPECTRAL):
        layer, x = _layer(case)
        layer = torch.nn.utils.parametrizations.spectral_norm(layer).eval()
        stored = layer.parametrizations.weight
        vectors = spectral_vectors(*case)
        # PyTorch's v counts the inputs first, then the taps.
        stored[0]._u.copy_(torch.tensor(vectors["u"]))
        stored[0]._v.copy_(torch.tensor(vectors["v"].reshape(-1, INPUTS).T.reshape(-1)))
        out = layer(x)
        _slope(out)
        numbers |= {
            f"{number}.out": _last(out),
            f"{number}.kernel": _kernel(stored.original.grad),
        }
    return numbers


def torch_batch_norm() -> Arrays:
    """Three training steps of BatchNorm2d, then an evaluation: outputs and statistics."""
    import torch

    *steps, last = batch_norm_inputs()
    layer = torch.nn.BatchNorm2d(5)
    out = [_last(layer(_first(x))) for x in steps]
    layer.eval()
    out.append(_last(layer(_first(last))))
    mean, var = layer.running_mean.numpy(), layer.running_var.numpy()
    return {"out": np.stack(out), "mean": mean, "var": var}


def torch_weight_norm() -> Arrays:
    """A linear layer with weight normalization: its output and the gradients."""
    import torch

    inputs = weight_norm_inputs()
    layer = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(5, 3))
    weight = layer.parametrizations.weight
    with torch.no_grad():
        weight.original0.copy_(torch.tensor(inputs["scale"])[:, None])
        weight.original1.copy_(torch.tensor(inputs["kernel"].T.copy()))
        layer.bias.copy_(torch.tensor(inputs["bias"]))
    x = torch.tensor(inputs["x"], requires_grad=True)
    y = layer(x)
    _slope(y)
    return {
        "y": y.detach().numpy(),
        "x": x.grad.numpy(),
        "kernel": weight.original1.grad.numpy().T,
        "scale": weight.original0.grad.numpy()[:, 0],
        "bias": layer.bias.grad.numpy(),
    }


def torch_similarity() -> Arrays:
    """Minibatch discrimination's sums over the whole table, and their gradient."""
    import torch

    m = torch.tensor(similarity_inputs(), requires_grad=True)
    near = torch.exp(-(m[:, None] - m[None]).abs().sum(-1)).sum(1)
    _slope(near)
    return {"out": near.detach().numpy(), "m": m.grad.numpy()}


def torch_grouped() -> Arrays:
    """A grouped convolution."""
    import torch

    inputs = grouped_inputs()
    x, w = _first(inputs["x"]), _weight(inputs["kernel"])
    return {"out": _last(torch.nn.functional.conv2d(x, w, padding=1, groups=3))}


def _filtered(x, gain, padding):
    import torch

    taps = torch.tensor([1.0, 3, 3, 1]) / 8
    channels = x.shape[1]
    fir = gain * torch.outer(taps, taps)[None, None].repeat(channels, 1, 1, 1)
    return torch.nn.functional.conv2d(x, fir, None, 1, padding, groups=channels)


def torch_resample() -> Arrays:
    """A convolution that doubles, with gradients, and one that halves x[:, :4, :6]."""
    import torch

    f, inputs = torch.nn.functional, resample_inputs()
    x, w = _first(inputs["x"]), _weight(inputs["kernel"])
    up = _filtered(f.conv_transpose2d(x, w.swapaxes(0, 1), None, 2), 4, 1)
    _slope(up)
    down = f.conv2d(_filtered(x[:, :, :4, :6], 1, 2), w, None, 2)
    return {"up": _last(up), "down": _last(down), "x": _last(x.grad), "kernel": _kernel(w.grad)}


def torch_modulated() -> Arrays:
    """A modulated convolution that doubles, by groups as in the official code, with gradients."""
    import torch

    f, inputs = torch.nn.functional, modulated_inputs()
    x, w = _first(inputs["x"]), _weight(inputs["kernel"])
    style = torch.tensor(inputs["style"], requires_grad=True)
    kernels = w[None] * style[:, None, :, None, None]  # [B, O, I, k, k]
    kernels = kernels * (kernels.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    kernels = kernels.swapaxes(1, 2).reshape(3 * 5, 7, 3, 3)
    y = f.conv_transpose2d(x.reshape(1, 15, 4, 6), kernels, None, 2, groups=3)
    y = _filtered(y, 4, 1).reshape(3, 7, 8, 12)
    _slope(y)
    return {
        "out": _last(y),
        "x": _last(x.grad),
        "kernel": _kernel(w.grad),
        "style": style.grad.numpy(),
    }


MAKERS: Mapping[str, Callable[[], Arrays]] = {
    maker.__name__: maker
    for maker in (
        torch_conv,
        torch_spectral,
        torch_batch_norm,
        torch_weight_norm,
        torch_similarity,
        torch_grouped,
        torch_resample,
        torch_modulated,
    )
}
