"""Adversarial losses as terms: a `View` in, a scalar out. Scores are logits, large means real.

Each takes the mean over this device's part of the batch; being linear in it, the devices' mean is
the batch's.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxgan.core import Array, View, batch_mean

_softplus = jax.nn.softplus


def minimax_discriminator(view: View, *, smoothing: float = 0.0, fake_weight: float = 1.0) -> Array:
    """-log D(x) - log(1 - D(G(z))), eq. 1 of Goodfellow et al., 2014, arXiv:1406.2661.

    Args:
      view: the round.
      smoothing: one-sided label smoothing (Salimans et al., 2016, arXiv:1606.03498, sec. 3.4):
        real examples have the target 1 - smoothing, generated ones 0. 0 by default.
      fake_weight: of the generated examples' part.
    """
    real, fake = view.on_real.source, view.on_fake.source
    on_real = (1 - smoothing) * _softplus(-real) + smoothing * _softplus(real)
    return on_real.mean() + fake_weight * _softplus(fake).mean()


def minimax_generator(view: View) -> Array:
    """log(1 - D(G(z))), the saturating loss of eq. 1 of Goodfellow et al., 2014."""
    return -_softplus(view.on_fake.source).mean()


def nonsaturating_generator(view: View) -> Array:
    """-log D(G(z)), section 3 of Goodfellow et al., 2014."""
    return _softplus(-view.on_fake.source).mean()


def least_squares_discriminator(view: View) -> Array:
    """((D(x) - 1)^2 + D(G(z))^2) / 2, eq. 9 of Mao et al., 2016, arXiv:1611.04076."""
    real, fake = view.on_real.source, view.on_fake.source
    return 0.5 * (jnp.square(real - 1).mean() + jnp.square(fake).mean())


def least_squares_generator(view: View) -> Array:
    """(D(G(z)) - 1)^2 / 2, eq. 9 of Mao et al., 2016."""
    return 0.5 * jnp.square(view.on_fake.source - 1).mean()


def hinge_discriminator(view: View) -> Array:
    """max(0, 1 - D(x)) + max(0, 1 + D(G(z))), Lim and Ye, 2017, arXiv:1705.02894."""
    real, fake = view.on_real.source, view.on_fake.source
    return jax.nn.relu(1 - real).mean() + jax.nn.relu(1 + fake).mean()


def wasserstein_discriminator(view: View) -> Array:
    """D(G(z)) - D(x), Arjovsky et al., 2017, arXiv:1701.07875, algorithm 1 with its sign turned."""
    return view.on_fake.source.mean() - view.on_real.source.mean()


def wasserstein_generator(view: View) -> Array:
    """-D(G(z)), the generator's loss of WGAN and of the hinge loss."""
    return -view.on_fake.source.mean()


def relativistic_discriminator(view: View) -> Array:
    """-log sigma(D(x) - D(G(z))), each real example with the generated one of its place:
    Jolicoeur-Martineau, 2018, arXiv:1807.00734, section 4.1, as a convex function of the pair."""
    return _softplus(view.on_fake.source - view.on_real.source).mean()


def relativistic_generator(view: View) -> Array:
    """-log sigma(D(G(z)) - D(x)), the generator's side of `relativistic_discriminator`."""
    return _softplus(view.on_real.source - view.on_fake.source).mean()


def label_loss(logits: Array, label: Array, *, kind: str) -> Array:
    """The mean over the examples of the cross-entropy of logits and labels.

    Args:
      logits: [B, K].
      label: [B, K] one-hot or multi-hot.
      kind: "class", a softmax over the K; "tags", K yes-or-no questions whose losses are added.
    """
    if kind == "class":
        return -(label * jax.nn.log_softmax(logits)).sum(-1).mean()
    return (_softplus(logits) - label * logits).sum(-1).mean()


def classify_real(view: View, *, kind: str) -> Array:
    """Classifying real images, L_C of Odena et al., 2016, arXiv:1610.09585, eq. 3; where few have
    labels, those that do."""
    few = view.batch.get("labeled")
    scores = view.on_real if few is None else view.score(few)
    return label_loss(scores.label_logits, view.batch["label"], kind=kind)


def classify_fake(view: View, *, kind: str) -> Array:
    """Classifying generated images as what they were asked to be, the other half of L_C."""
    return label_loss(view.on_fake.label_logits, view.fake.label, kind=kind)


def feature_matching(view: View) -> Array:
    """The mean squared difference of the features' means, real and generated, over the global
    batch (Salimans et al., 2016, arXiv:1606.03498, section 3.1, which sums; courses average)."""
    return jnp.square(batch_mean(view.on_real.features) - batch_mean(view.on_fake.features)).mean()


def real_score(view: View) -> Array:
    """The mean logit of real images."""
    return view.on_real.source.mean()


def fake_score(view: View) -> Array:
    """The mean logit of generated images."""
    return view.on_fake.source.mean()


def real_probability(view: View) -> Array:
    """The mean D(x) in [0, 1], for losses whose score is the logit of a probability."""
    return jax.nn.sigmoid(view.on_real.source).mean()


def fake_probability(view: View) -> Array:
    """The mean D(G(z)) in [0, 1], for losses whose score is the logit of a probability."""
    return jax.nn.sigmoid(view.on_fake.source).mean()


SCORES = {"real": (0.0, real_score), "fake": (0.0, fake_score)}
"""Terms without weight, measured for every discriminator."""

PROBABILITIES = SCORES | {
    "real_probability": (0.0, real_probability),
    "fake_probability": (0.0, fake_probability),
}
"""Terms without weight, measured for the discriminators of logistic losses."""
