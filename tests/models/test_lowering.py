"""Every update lowers for TPU and CUDA on a machine without either, to what they run well."""

import re

import jax
import numpy as np
import pytest
from helpers import noise_images, small_config

from jaxgan.core import AXIS, Plan, init_state
from jaxgan.models import MODELS
from jaxgan.precision import with_precision
from jaxgan.stages import as_stages
from jaxgan.step import update_step

BATCH, SIZE = 4, 16
# Whose generator sees real images, or is compared with them.
REAL = ("improved", "r3gan", "stargan")
DATA = noise_images(8, SIZE, 3, classes=3)


def _stages(name):
    made = MODELS[name].make(DATA.spec, small_config(name, 8), Plan(BATCH, 4))
    return as_stages(made, SIZE, BATCH)


def _lowered(gan, number, size, precision):
    """The program of an update by platform, in text."""
    gan = with_precision(gan, precision)
    state = jax.eval_shape(lambda key: init_state(gan, key), jax.random.key(0))
    batch = {
        "image": jax.ShapeDtypeStruct((1, BATCH, SIZE, SIZE, 3), np.uint8),
        "index": jax.ShapeDtypeStruct((1, BATCH), np.int32),
        "label": jax.ShapeDtypeStruct((1, BATCH, 3), np.float32),
        "mirrored": jax.ShapeDtypeStruct((1, BATCH), np.bool_),
    }
    step = jax.vmap(
        update_step(gan, number), in_axes=(None, 0, None), out_axes=None, axis_name=AXIS
    )
    traced = jax.jit(step).trace(state, batch, jax.random.key(0))
    return {
        platform: traced.lower(lowering_platforms=(platform,)).as_text()
        for platform in ("tpu", "cuda")
    }


def _check(name, stage):
    found = 0
    for number in range(len(stage.gan.updates)):
        texts = _lowered(stage.gan, number, stage.size, "bfloat16")
        for platform, text in texts.items():
            where = f"{name}, update {number}, {platform}"
            assert "f64" not in text, where
            if stage.gan.updates[number].player == "generator" and name not in REAL:
                assert "ui8" not in text, f"{where}: looks at real images"
            assert not set(re.findall(r"custom_call @(\w+)", text)), where
            convs = re.findall(r"stablehlo\.convolution.* : \(tensor<\S*x(\w+)>, ", text)
            assert {"bf16"} >= set(convs), where
            assert len(convs) == text.count("stablehlo.convolution("), where
            # A strided convolution's derivatives, which no way of a CPU has.
            found += len(re.findall(r"lhs_dilate = \[2, 2\]", text))
    return found


@pytest.mark.parametrize("name", MODELS)
def test_the_last_stage_lowers(name):
    found = _check(name, _stages(name)[-1])
    if name in ("dcgan", "wgan", "acgan", "sagan"):
        assert found


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODELS if len(_stages(name)) > 1])
def test_the_other_stages_lower(name):
    for stage in _stages(name)[:-1]:
        _check(name, stage)
