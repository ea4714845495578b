"""Path lengths of generators whose paths are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.errors import UsageError
from jaxgan.evaluation.distances.path_length import path_lengths
from jaxgan.sampling.paths import lerp, slerp

RANDOM = np.random.default_rng(0)
A, B = RANDOM.normal(size=(2, 30, 6))
T = RANDOM.uniform(size=30)


def test_lines_and_arcs_begin_and_end_where_they_should():
    for path in (lerp, slerp):
        np.testing.assert_allclose(path(A, B, np.zeros((30, 1))), A, atol=1e-12)
        np.testing.assert_allclose(path(A, B, np.ones((30, 1))), B, atol=1e-12)


def test_an_arc_turns_and_stretches_evenly():
    a, b = np.array([[1.0, 0]]), np.array([[0.0, 3]])
    middle = 5 / 3 * np.array([[np.cos(np.pi / 6), np.sin(np.pi / 6)]])
    np.testing.assert_allclose(slerp(a, b, np.array([[1 / 3]])), middle)


def test_an_arc_between_equal_or_no_latents_is_finite():
    t = np.full((30, 1), 0.3)
    np.testing.assert_allclose(slerp(A, A, t), A, atol=1e-12)
    np.testing.assert_array_equal(slerp(0 * A, 0 * A, t), 0)
    assert np.isfinite(slerp(A, -A, t)).all()


@pytest.mark.parametrize("batch_size", [7, 30, 64])
def test_a_linear_generator_moves_as_its_latents_do(batch_size):
    w = jnp.asarray(RANDOM.normal(size=(6, 4)), jnp.float32)
    shapes = set()

    @jax.jit
    def generate(z):
        shapes.add(z.shape)
        return (z @ w).reshape(-1, 2, 2, 1)

    found = path_lengths(
        generate,
        lambda x: x.reshape(len(x), -1),
        A,
        B,
        T,
        path=lerp,
        epsilon=0.1,
        batch_size=batch_size,
    )
    speeds = np.square((B - A) @ np.float64(w)).sum(1)
    assert shapes == {(batch_size, 6)}
    np.testing.assert_allclose(found, speeds, rtol=1e-4)


def test_a_step_along_an_arc_is_its_angle():
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (A, B)]
    angles = np.arccos((unit[0] * unit[1]).sum(1))
    found = path_lengths(
        lambda z: z, lambda x: x, *unit, T, path=slerp, epsilon=1e-2, batch_size=30
    )
    np.testing.assert_allclose(found, angles**2, rtol=1e-3)


def test_the_ends_are_left_out():
    count = 1000
    ends = np.ones((count, 1))
    ends[:5] = 1e3
    found = path_lengths(lambda z: z, lambda x: x, 0 * ends, ends, 0 * ends, path=lerp, epsilon=0.5)
    assert len(found) == count - 5
    assert found.mean() == pytest.approx(1)


def test_what_does_not_fit_is_refused():
    def measure(generate=lambda z: z, ends=B, fractions=T, **settings):
        return path_lengths(generate, lambda x: x, A, ends, fractions, **{"path": lerp, **settings})

    with pytest.raises(UsageError, match="uint8 pictures"):
        measure(lambda z: np.uint8(np.clip(z, 0, 1)))
    with pytest.raises(UsageError, match="30 first latents, 30 last ones and 29 fractions"):
        measure(fractions=T[1:])
    with pytest.raises(UsageError, match="6 columns .* 5"):
        measure(ends=B[:, 1:])
    with pytest.raises(UsageError, match="not finite"):
        measure(lambda z: z * np.nan)
