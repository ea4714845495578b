"""bfloat16: which numbers are in it, and that training goes on."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from helpers import TOY, first_state, noise_images, small_model, virtual

from jaxgan.core import AXIS, Context, example_keys, normalize
from jaxgan.data import DataSpec
from jaxgan.errors import UsageError
from jaxgan.models import MODELS
from jaxgan.precision import multiplying, with_precision
from jaxgan.step import update_step
from jaxgan.training.check import examples

SIZE = {"improved": 14}


def _outputs(found):
    """Makes flax note the dtype of what each module puts out."""

    def note(call, arguments, options, context):
        out = call(*arguments, **options)
        for x in jax.tree.leaves(out) if context.method_name == "__call__" else ():
            found.append((type(context.module).__name__, x.dtype))
        return out

    return nn.intercept_methods(note)


def _model(name):
    dataset = noise_images(16, SIZE.get(name, 16), classes=4)
    return dataset, small_model(name, dataset)


@pytest.mark.parametrize("name", MODELS)
def test_every_module_puts_out_bfloat16_and_the_networks_float32(name):
    dataset, plain = _model(name)
    gan = with_precision(plain, "bfloat16")
    variables = jax.eval_shape(lambda: gan.init(jax.random.key(0)))
    keys = example_keys(jax.random.key(0), jnp.arange(8))
    context = Context(jnp.zeros((), jnp.int32), keys, {}, train=False)
    batch = {
        "index": jnp.arange(8),
        "label": jnp.asarray(dataset.labels[:8]),
        "image": normalize(jnp.asarray(dataset.images[:8])),
    }

    def play(variables):
        fake, _ = gan.generate(variables["generator"], batch, context)
        scores, _ = gan.score(variables["discriminator"], fake.image, fake.label, context)
        return fake, scores

    found = []
    with _outputs(found):
        fake, scores = jax.eval_shape(play, variables)
    assert {x.dtype for x in jax.tree.leaves((fake, scores))} == {jnp.dtype(jnp.float32)}
    assert len(found) > 4
    assert not [module for module, dtype in found if dtype != jnp.bfloat16]


def test_a_step_in_bfloat16_is_near_one_in_float32():
    dataset, plain = _model("gan")
    batch = {
        "image": dataset.images[:8],
        "label": dataset.labels[:8],
        "index": np.arange(8, dtype=np.int32),
    }
    state, key = jax.jit(lambda: first_state(plain))(), jax.random.key(1)
    full, measured = virtual(plain)(state, batch, key)
    half, also = virtual(with_precision(plain, "bfloat16"))(state, batch, key)
    for a, b in zip(jax.tree.leaves(full), jax.tree.leaves(half), strict=True):
        assert a.dtype == b.dtype
    loss = "discriminator/loss"
    np.testing.assert_allclose(also[loss], measured[loss], rtol=0.02)
    assert also[loss] != measured[loss]


def test_float32_is_the_gan_itself_and_others_are_refused():
    assert with_precision(TOY, "float32") is TOY
    with pytest.raises(UsageError, match="precision 'float16' must be one of float32, bfloat16"):
        with_precision(TOY, "float16")


@pytest.mark.parametrize(("precision", "said"), [("default", "DEFAULT"), ("highest", "HIGHEST")])
def test_products_of_an_update_multiply_as_was_asked(precision, said):
    gan = _model("dcgan")[1]
    state = jax.eval_shape(lambda: first_state(gan))
    batch = examples(DataSpec("noise", 16, 3, "class", tuple("abcd")), 8)
    step = jax.vmap(update_step(gan, 0), in_axes=(None, 0, None), out_axes=None, axis_name=AXIS)
    with multiplying(precision):
        text = jax.jit(step).lower(state, batch, jax.random.key(0)).as_text()
    found = re.findall(r"precision_config = \[#stablehlo<precision (\w+)>", text)
    found += re.findall(r"precision = \[(\w+), \w+\]", text)
    assert found and {*found} == {said}


def test_an_unknown_way_to_multiply_is_refused():
    with pytest.raises(UsageError, match="valid: default, high, highest"):
        multiplying("float32")
