"""Computing in bfloat16, a wrapper Gan -> Gan; and how exactly float32 is multiplied.

Layers compute in the dtype of their inputs, with weights, statistics and sums in float32; so it is
enough to hand latents, pictures and labels over in bfloat16, and to take pictures and scores back
in float32. bfloat16 has float32's range: no loss needs to be scaled.
"""

from __future__ import annotations

import contextlib

import jax
import jax.numpy as jnp

from jaxgan.core import Context, Gan, Style
from jaxgan.errors import UsageError, unknown

PRECISIONS = ("float32", "bfloat16")
MATMUL_PRECISIONS = ("default", "high", "highest")
"""Of products and convolutions of float32. The default is the device's: one pass in bfloat16 on a
TPU, TF32 on a GPU, all bits on a CPU. "high" is three passes or TF32, "highest" all bits."""


def with_precision(gan: Gan, precision: str) -> Gan:
    """Returns the Gan with its networks in "float32", as it is, or in "bfloat16".

    Raises:
      UsageError: if the precision is another.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"precision {precision!r} must be one of {', '.join(PRECISIONS)}")
    return gan if precision == "float32" else _in_bfloat16(gan)


def multiplying(precision: str) -> contextlib.AbstractContextManager:
    """Within it, what is traced multiplies float32 in one of `MATMUL_PRECISIONS`.

    Raises:
      UsageError: if the precision is another.
    """
    if precision not in MATMUL_PRECISIONS:
        raise unknown("matmul_precision", precision, MATMUL_PRECISIONS)
    # The default may be set in the environment, JAX_DEFAULT_MATMUL_PRECISION.
    if precision == "default":
        return contextlib.nullcontext()
    return jax.default_matmul_precision(precision)


def _in_bfloat16(gan: Gan) -> Gan:
    def generate(variables, batch, context: Context):
        if gan.latent is not None and "latent" not in batch:
            batch = {**batch, "latent": gan.latent(context.rng)}
        floats = ("latent", "label", "image")
        half = {n: _half(x) if n in floats else x for n, x in batch.items()}
        fake, stats = gan.generate(variables, half, context)
        label = None if fake.label is None else batch["label"]
        return fake._replace(image=_full(fake.image), label=label), stats

    def score(variables, image, label, context: Context):
        image, label = _half((image, label))
        scores, stats = gan.score(variables, image, label, context)
        return _full(scores), stats

    return gan._replace(generate=generate, score=score, style=gan.style and _style(gan.style))


def _style(style: Style) -> Style:
    return style._replace(
        w=lambda variables, z, label: _full(style.w(variables, *_half((z, label)))),
        synthesize=lambda variables, w, context: _full(
            style.synthesize(variables, _half(w), context)
        ),
    )


def _half(tree):
    return jax.tree.map(lambda x: x.astype(jnp.bfloat16), tree)


def _full(tree):
    return jax.tree.map(lambda x: x.astype(jnp.float32), tree)
