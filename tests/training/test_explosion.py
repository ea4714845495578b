"""A run whose numbers are finite and senseless is warned of while it trains, once."""

import math

import pytest
from helpers import TOY, toy_dataset

from jaxgan.core import Update
from jaxgan.losses import minimax_discriminator
from jaxgan.training.explosion import Explosion
from jaxgan.training.loop import train
from jaxgan.training.record import Schedule


@pytest.mark.parametrize(
    ("values", "warns"),
    [
        ([1.4, 0.7, 30.0], False),
        ([1.4, 2e4, 3.7e16, 5e17], True),
        ([-900.0, -2e4], True),  # a Wasserstein critic's
        ([math.inf, math.nan], False),  # such updates are undone, and counted
    ],
)
def test_a_warning_is_given_once(values, warns, caplog):
    explosion = Explosion()
    for step, value in enumerate(values):
        # Whatever a penalty and the generator do.
        others = {"discriminator/loss": 1e9, "generator/loss": 1e9}
        explosion(step, {"discriminator/adversarial": value, **others})
    explosion(9, {})
    assert len(caplog.records) == warns
    if warns:
        assert "discriminator/adversarial is 2e+04 at step 1" in caplog.text


def test_a_run_that_explodes_warns_while_it_trains(caplog):
    def huge(view):
        return 3.7e16 + 0 * minimax_discriminator(view)

    updates = (Update("discriminator", {"adversarial": (1.0, huge)}), TOY.updates[-1])
    schedule = Schedule(log_every=1, num_samples=4)
    train(
        TOY._replace(updates=updates),
        toy_dataset(10),
        batch_size=4,
        steps=3,
        schedule=schedule,
        progress=False,
    )
    told = [record for record in caplog.records if "scores explode" in record.getMessage()]
    assert len(told) == 1
    assert "3.7e+16 at step 1" in told[0].getMessage()
