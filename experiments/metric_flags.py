"""The flag that says what a generator is measured by."""

from __future__ import annotations

from absl import flags

from jaxgan.errors import UsageError, unknown
from jaxgan.evaluate import Evaluator
from jaxgan.metrics.suite import METRICS, USUAL

FLAGS = flags.FLAGS

flags.DEFINE_list(
    "metrics", None, f"Of {', '.join(METRICS)}. Default: {', '.join(USUAL)}, as far as possible."
)


def names() -> tuple[str, ...]:
    """Returns the metrics that the flags ask for."""
    for name in FLAGS.metrics or ():
        if name not in METRICS:
            raise unknown("metric", name, METRICS)
    return tuple(FLAGS.metrics or USUAL)


def report_obstacles(evaluator: Evaluator) -> None:
    """Says which of the usual metrics cannot be measured; one that was asked for is an error."""
    for name, why in evaluator.obstacles().items():
        if FLAGS.metrics:
            raise UsageError(why)
        print(f"note: {name} is not measured: {why}")
