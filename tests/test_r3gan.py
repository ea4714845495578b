"""R3GAN: sizes as the paper prints them, where it begins, and what changes during the burn-in."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SEED, TOY, a_view, noise_images, on_host, toy_dataset

from jaxgan import optim, penalties
from jaxgan.core import Context, Plan
from jaxgan.data import DataSpec
from jaxgan.errors import UsageError
from jaxgan.models import r3gan
from jaxgan.record import Schedule
from jaxgan.train import train

KEY = jax.random.key(2)
SMALL = r3gan.Config(width=8, group=4)


def _spec(size, labels=()):
    return DataSpec("data", size, 3, "class" if labels else None, labels)


def _shapes(config, size, labels=()):
    return jax.eval_shape(r3gan.make(_spec(size, labels), config, Plan(256, 1)).init, KEY)


def _count(variables):
    return sum(x.size for x in jax.tree.leaves(variables))


def test_it_has_the_parameters_that_the_paper_prints():
    # Table 2, configuration E: 23.058M and 23.010M at 256 px.
    variables = _shapes(r3gan.FFHQ_256, 256)
    assert _count(variables["generator"]) == 23_057_952
    assert _count(variables["discriminator"]) == 23_009_568


@pytest.mark.parametrize(
    ("config", "size", "group"), [(r3gan.FFHQ_64, 64, 16), (r3gan.IMAGENET_32, 32, 32)]
)
def test_convolutions_of_three_look_at_a_group(config, size, group):
    for variables in _shapes(config, size).values():
        kernels = [
            x.shape
            for path, x in jax.tree_util.tree_leaves_with_path(variables)
            if "GroupedConv_0" in jax.tree_util.keystr(path)
        ]
        assert len(kernels) == 2 * len(r3gan._widths(config.width, {64: 4, 32: 3}[size]))
        assert {kernel[:3] for kernel in kernels} == {(3, 3, group)}
        assert {kernel[3] for kernel in kernels} <= {2 * config.width, config.width}


def test_labels_are_embedded_beside_the_latents_and_projected():
    labels = tuple("abcde")
    without, variables = (_shapes(r3gan.FFHQ_64, 64, names) for names in ((), labels))
    extra = {player: _count(variables[player]) - _count(without[player]) for player in variables}
    # An embedding of 64, which the first layer also reads; and 768 features for the one score.
    assert extra["generator"] == 5 * 64 + 64 * 768
    assert extra["discriminator"] == 5 * 768 + 767 * 768


def test_a_block_is_the_identity_at_first_and_not_later():
    block = r3gan.Block(group=16, depth=10)
    x = jax.random.normal(KEY, (2, 4, 4, 64))
    variables = block.init(KEY, x)
    np.testing.assert_array_equal(block.apply(variables, x), x)
    moved = jax.tree.map(lambda x: x + 0.01, variables)
    assert np.abs(block.apply(moved, x) - x).max() > 1e-3
    params, gain = variables["params"], (2 / 1.04) ** 0.5 * 10**-0.25
    for name, fan_in in (("Conv_0", 64), ("GroupedConv_0", 9 * 16)):
        deviation = params[name]["kernel"].std() * fan_in**0.5
        np.testing.assert_allclose(deviation, gain, rtol=0.05)


def test_the_discriminator_is_linear_at_first():
    # All of its blocks being identities.
    gan = r3gan.make(_spec(16), SMALL, Plan(8, 1))
    params = jax.jit(gan.init)(KEY)["discriminator"]
    images = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
    score = jax.jit(lambda images: _score(gan, params, images))
    np.testing.assert_allclose(score(2 * images), 2 * score(images), rtol=1e-4, atol=1e-5)


def _score(gan, variables, images, label=None):
    context = Context(jnp.int32(0), jax.random.split(KEY, len(images)), {}, train=False)
    return gan.score(variables, images, label, context)[0].source


def test_images_are_bounded_in_use_but_not_in_training():
    gan = r3gan.make(_spec(16), SMALL, Plan(8, 1))
    variables = jax.jit(gan.init)(KEY)["generator"]
    loud = jax.tree.map(lambda x: 3 * x, variables)
    context = Context(jnp.int32(0), jax.random.split(KEY, 4), {}, train=True)

    @jax.jit
    def generate(variables):
        both = (context, context._replace(train=False))
        return [gan.generate(variables, {}, each)[0].image for each in both]

    training, use = generate(loud)
    assert np.abs(training).max() > 1
    np.testing.assert_array_equal(np.clip(training, -1, 1), use)


# The networks and R1 written once more, in PyTorch


def _torch_weight(torch, tree, name):
    kernel = torch.tensor(np.asarray(tree[name]["kernel"]))
    return kernel.T if kernel.ndim == 2 else kernel.permute(3, 2, 0, 1)


def _torch_resample(torch, x, up):
    taps = torch.tensor([1.0, 3, 3, 1]) / 8
    kernel = torch.outer(taps, taps).expand(x.shape[1], 1, 4, 4)
    if up:
        return torch.nn.functional.conv_transpose2d(x, 4 * kernel, None, 2, 1, groups=x.shape[1])
    return torch.nn.functional.conv2d(x, kernel, None, 2, 1, groups=x.shape[1])


def _torch_stages(torch, tree, x, widths, up):
    """The blocks of every size with what lies between them."""
    functional = torch.nn.functional
    convs = (_torch_weight(torch, tree, f"Conv_{n}") for n in range(1 - up, 100))
    blocks = (tree[f"Block_{n}"] for n in range(100))
    if not up:
        x = functional.conv2d(x, _torch_weight(torch, tree, "Conv_0"))
    for number, width in enumerate(widths):
        if up and x.shape[1] != width:
            x = functional.conv2d(x, next(convs))
        if number:
            x = _torch_resample(torch, x, up)
        if not up and x.shape[1] != width:
            x = functional.conv2d(x, next(convs))
        block = next(blocks)
        first, last = (_torch_weight(torch, block, f"Conv_{n}") for n in (0, 1))
        middle = _torch_weight(torch, block, "GroupedConv_0")
        biases = (block["Conv_0"]["bias"], block["bias"])
        one, two = (torch.tensor(np.asarray(b))[:, None, None] for b in biases)
        y = functional.leaky_relu(functional.conv2d(x, first) + one, 0.2)
        y = functional.conv2d(y, middle, padding=1, groups=len(middle) // middle.shape[1])
        x = x + functional.conv2d(functional.leaky_relu(y + two, 0.2), last)
    return functional.conv2d(x, next(convs)) if up else x


def test_networks_and_r1_are_those_of_pytorch(monkeypatch):
    torch = pytest.importorskip("torch")
    # At 16 px, where it compiles soon, and yet with a change of widths.
    monkeypatch.setattr(r3gan, "_widths", lambda width, doublings: [width, width, width // 2])
    config = dataclasses.replace(SMALL, blocks=1)
    gan = r3gan.make(_spec(16, ("a", "b")), config, Plan(2, 1))
    variables = jax.jit(gan.init)(KEY)
    noise = iter(np.random.default_rng(0).normal(size=(200, 200_000)).astype(np.float32) * 0.1)
    variables = jax.tree.map(
        lambda x: np.asarray(x) + next(noise)[: x.size].reshape(x.shape), variables
    )
    g, d = (variables[player]["params"] for player in ("generator", "discriminator"))
    z = np.random.default_rng(1).normal(size=(2, 64)).astype(np.float32)
    label = np.eye(2, dtype=np.float32)
    context = Context(jnp.int32(0), jax.random.split(KEY, 2), {}, train=True)

    @jax.jit
    def ours(variables):
        made = gan.generate(variables["generator"], {"latent": z, "label": label}, context)
        image = made[0].image
        view = a_view(
            image=image,
            label=label,
            score=lambda x, label: _score(gan, variables["discriminator"], x, label),
        )
        return image, view.score(image, label).source, penalties.r1(view)

    image, score, r1 = ours(variables)
    linear = [_torch_weight(torch, g, f"Dense_{n}") for n in (0, 1)]
    latent = torch.cat([torch.tensor(z), torch.tensor(label) @ linear[0].T], 1) @ linear[1].T
    basis = torch.tensor(g["basis"]).permute(2, 0, 1)
    theirs = _torch_stages(torch, g, basis * latent[..., None, None], (8, 8, 4), up=True)
    np.testing.assert_allclose(image, theirs.permute(0, 2, 3, 1), rtol=1e-3, atol=1e-3)

    x = torch.tensor(np.asarray(image)).permute(0, 3, 1, 2).requires_grad_()
    y = _torch_stages(torch, d, x, (4, 8, 8), up=False)
    y = (y * torch.tensor(d["basis"]).permute(2, 0, 1)).sum((2, 3))
    projected, embedded = (_torch_weight(torch, d, f"Dense_{n}") for n in (0, 1))
    y = ((y @ projected.T) * (torch.tensor(label) @ embedded.T)).sum(1)
    np.testing.assert_allclose(score, y.detach(), rtol=1e-3)
    (slope,) = torch.autograd.grad(y.sum(), x)
    np.testing.assert_allclose(r1, slope.square().sum((1, 2, 3)).mean() / 2, rtol=1e-3)


# The burn-in


def test_a_cosine_goes_from_the_first_value_to_the_final_one_and_stays():
    value = optim.cosine(2.0, 0.2, 100)
    np.testing.assert_allclose([value(s) for s in (0, 50, 100, 500)], [2, 1.1, 0.2, 0.2], rtol=1e-6)
    assert optim.cosine(2.0, 0.2, 0)(0) == pytest.approx(0.2)


def test_what_the_burn_in_changes():
    config = r3gan.Config(burn_in=25_600.0)
    gan = r3gan.make(_spec(16), config, Plan(256, 1))
    (discriminator, generator), end = gan.updates, 100
    assert generator.fresh and all(u.every == u.repeat == 1 for u in gan.updates)
    slope = np.ones((4, 4, 3), np.float32)
    images = np.zeros((2, 4, 4, 3), np.float32)
    view = a_view(
        image=images, made=images, score=lambda image, label=None: (image * slope).sum((1, 2, 3))
    )
    for step, gamma, p in ((0, 2.0, 0.0), (end // 2, 1.1, 0.15), (end, 0.2, 0.3), (900, 0.2, 0.3)):
        now = view._replace(step=jnp.int32(step))
        for name in ("r1", "r2"):
            weight, term = discriminator.objective[name]
            np.testing.assert_allclose(weight * term(now), gamma / 2 * 48, rtol=1e-5)
        np.testing.assert_allclose(discriminator.objective["augment_p"][1](now), p, atol=1e-6)
    assert gan.ema(0) == 0
    np.testing.assert_allclose(gan.ema(end), 0.5 ** (256 / 500_000), rtol=1e-6)
    grads = {"w": jnp.ones(())}
    for player in gan.optimizers.values():
        first = player.init(grads)
        for step, rate, beta2 in ((0, 2e-4, 0.9), (end // 2, 1.25e-4, 0.945), (end, 5e-5, 0.99)):
            _, state = player.update(grads, _at(step, first))
            np.testing.assert_allclose(state.hyperparams["learning_rate"], rate, rtol=1e-5)
            np.testing.assert_allclose(state.hyperparams["b2"], beta2, rtol=1e-5)


def _at(step, state):
    """The optimiser's state as it is later, its moments apart."""
    later = {
        name: each._replace(count=jnp.int32(step))
        for name, each in state.hyperparams_states.items()
    }
    return state._replace(count=jnp.int32(step), hyperparams_states=later)


def test_scheduled_adam_is_pytorchs_with_settings_that_change():
    rates, beta2s = optim.cosine(0.1, 0.02, 6), optim.cosine(0.9, 0.99, 6)
    tx = optim.scheduled_adam(rates, beta2s)
    params = jnp.array([1.0, -2.0, 0.5])
    state, moment, expected = tx.init(params), np.zeros(3), np.array(params)
    for step in range(8):
        grads = np.sin(np.arange(3) + step)
        updates, state = jax.jit(tx.update)(jnp.asarray(grads, jnp.float32), state, params)
        params = params + updates
        beta2 = float(beta2s(step))
        moment = beta2 * moment + (1 - beta2) * grads**2
        corrected = np.sqrt(moment / (1 - beta2 ** (step + 1)))
        expected = expected - float(rates(step)) * grads / (corrected + 1e-8)
        np.testing.assert_allclose(params, expected, rtol=1e-5, atol=1e-6)


def test_a_resumed_run_goes_on_in_the_middle_of_the_schedules(tmp_path):
    def optimizer():
        return optim.scheduled_adam(optim.cosine(0.1, 0.02, 6), optim.cosine(0.9, 0.99, 6))

    gan = TOY._replace(optimizers={player: optimizer() for player in TOY.optimizers})
    schedule = Schedule(log_every=10, sample_every=10, checkpoint_every=10, num_samples=4)

    def run(name, steps):
        state = train(
            gan,
            toy_dataset(),
            batch_size=8,
            steps=steps,
            seed=SEED,
            workdir=tmp_path / name,
            schedule=schedule,
            progress=False,
        )
        return on_host(state)

    run("parts", 2)
    chex.assert_trees_all_equal(run("parts", 4), run("whole", 4))


def test_widths_that_cannot_be_divided_name_one_that_can():
    with pytest.raises(UsageError, match=r"width 24 gives 12 channels at 64 px.*--set width=16"):
        r3gan.make(_spec(64), r3gan.Config(width=24), Plan(8, 1))
    r3gan.make(_spec(64), r3gan.Config(width=16), Plan(8, 1))
    with pytest.raises(UsageError, match="cannot work at 30 px"):
        r3gan.make(_spec(30), r3gan.Config(), Plan(8, 1))


def test_without_augmentation_there_is_none():
    spec = noise_images(size=16).spec
    plain, own = (
        r3gan.make(spec, r3gan.Config(width=8, augment=p), Plan(8, 1)) for p in (0.0, 0.3)
    )
    assert "augment_p" not in plain.updates[0].objective
    assert "augment_p" in own.updates[0].objective
