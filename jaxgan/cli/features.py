"""The flags that say which network reads pictures, and what a generator is measured by."""

from __future__ import annotations

from absl import flags

from jaxgan.evaluation.metrics import METRICS, USUAL


def define_features_flag() -> None:
    """Defines --features."""
    flags.DEFINE_string(
        "features",
        None,
        "What reads the pictures: 'inception' (fetched once, 91 MiB), a file of its weights or of "
        "jaxgan classify, or 'random'. Default: the classifier of the data set, if there is "
        "one.",
    )


def define_metrics_flag() -> None:
    """Defines --metrics."""
    flags.DEFINE_list(
        "metrics",
        None,
        f"Of {', '.join(METRICS)}. Default: {', '.join(USUAL)}, as far as possible.",
    )
