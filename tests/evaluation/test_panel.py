"""Findings on made-up distances, counts and scores whose right verdict is certain."""

import math

import numpy as np
import pytest

from jaxgan.evaluation import verdicts

NAMES = tuple(f"class {k}" for k in range(10))


def _random(seed=0):
    return np.random.default_rng(seed)


def _nearest(queries, references, rank=0):
    distances = np.linalg.norm(queries[:, None] - references[None], axis=-1)
    return np.sort(distances, axis=1)[:, rank]


def _points(seed, count=300):
    return _random(seed).normal(size=(count, 4))


def _verdicts(findings):
    return [finding.verdict for finding in findings]


def test_samples_of_the_same_distribution_are_good():
    train, unseen, samples, real = (_points(seed) for seed in range(4))
    findings = [
        *verdicts.memorization(_nearest(samples, train), _nearest(unseen, train), "pixels"),
        verdicts.duplicates(_nearest(samples, samples, 1), _nearest(real, real, 1), "pixels"),
    ]
    assert _verdicts(findings) == ["good"] * 3
    assert findings[0].value == pytest.approx(1, abs=0.1)
    assert [f.name for f in findings] == [
        "memorization/pixels",
        "copies/pixels",
        "duplicates/pixels",
    ]


def test_a_copied_training_set_is_bad():
    train, unseen = _points(0), _points(1)
    samples = train + 1e-3 * _points(2)
    findings = verdicts.memorization(_nearest(samples, train), _nearest(unseen, train), "features")
    assert _verdicts(findings) == ["bad", "bad"]
    assert findings[0].value < 0.05
    assert findings[1].value == 1
    assert "copies" in findings[0].sentence


def test_some_copies_are_seen_though_the_median_is_not_moved():
    train, unseen, samples = (_points(seed) for seed in range(3))
    samples[:45] = train[:45]
    findings = verdicts.memorization(_nearest(samples, train), _nearest(unseen, train), "pixels")
    assert _verdicts(findings) == ["good", "bad"]


@pytest.mark.parametrize(
    ("scale", "verdict"), [(0.3, "bad"), (0.65, "watch"), (1.2, "good"), (2.0, "watch")]
)
def test_samples_much_nearer_than_unseen_pictures_are_copies(scale, verdict):
    distances = _random().gamma(9, size=(2, 2000))
    ratio, _ = verdicts.memorization(scale * distances[0], distances[1], "pixels")
    assert (ratio.verdict, ratio.value) == (verdict, pytest.approx(scale, rel=0.1))


@pytest.mark.parametrize(("share", "verdict"), [(0.02, "good"), (0.06, "watch"), (0.3, "bad")])
def test_a_few_samples_may_be_as_near_as_the_nearest_real_pictures(share, verdict):
    unseen, samples = _random().gamma(9, size=(2, 10_000))
    near = np.quantile(unseen, 0.005)  # nearer than only one real picture in 200 is
    few = np.where(np.arange(10_000) < share * 10_000, near, np.maximum(samples, np.median(unseen)))
    _, copies = verdicts.memorization(few, unseen, "pixels")
    assert (copies.verdict, copies.value) == (verdict, pytest.approx(share))
    assert verdicts.duplicates(few, unseen, "pixels").verdict == verdict


def test_noise_is_far_from_the_data():
    train, unseen = _points(0), _points(1)
    ratio, copies = verdicts.memorization(
        _nearest(10 * _points(2), train), _nearest(unseen, train), "pixels"
    )
    assert (ratio.verdict, copies.verdict) == ("watch", "good")
    assert ratio.value > verdicts.FAR
    assert "unlike" in ratio.sentence


def test_a_constant_generator_repeats_itself():
    finding = verdicts.duplicates(np.zeros(64), _nearest(_points(0), _points(0), 1), "pixels")
    assert finding.verdict == "bad"
    assert finding.value == 1


def test_equal_pictures_in_the_data_neither_hide_nor_fake_duplicates():
    real = np.concatenate([np.zeros(60), _random(0).uniform(1, 2, 240)])
    assert verdicts.duplicates(real.copy(), real, "pixels").verdict == "good"
    assert verdicts.duplicates(np.full(300, 0.9), real, "pixels").verdict == "bad"


@pytest.mark.parametrize("count", [8, 30, 100, 3000])
def test_chance_does_not_alarm(count):
    for seed in range(10):
        random = _random(seed)
        share = random.dirichlet(np.ones(10))
        rate = random.uniform(0.02, 0.9, 10)
        distances = random.gamma(9, size=(2, count))
        scores = random.normal(size=(2, count))
        findings = [
            verdicts.class_histogram(
                random.multinomial(count, share), random.multinomial(5000, share), NAMES
            ),
            verdicts.tag_rates(
                random.binomial(count, rate), count, random.binomial(5000, rate), 5000, NAMES
            ),
            verdicts.duplicates(*distances, "pixels"),
            *verdicts.memorization(*distances, "pixels"),
            *verdicts.score_gap(*scores, scores[0] - 3),
        ]
        assert {f.verdict for f in findings} == {"good"}, findings


def test_a_uniform_histogram_is_good():
    finding = verdicts.class_histogram(np.full(10, 100), np.full(10, 600), NAMES)
    assert finding == ("classes", 0, "good", finding.sentence)


def test_counts_may_be_sums_of_float32_labels():
    data = _random().integers(1, 10**6, 1000).astype(np.float32)
    names = [str(k) for k in range(1000)]
    assert verdicts.class_histogram(data, data, names).verdict == "good"
    assert verdicts.tag_rates(data, 10**6, data, 10**6, names).verdict == "good"


def test_a_missing_class_is_named():
    generated = np.full(10, 100)
    generated[3] = 0
    finding = verdicts.class_histogram(generated, np.full(10, 600), NAMES)
    assert finding.verdict == "bad"
    assert finding.value == pytest.approx(0.1)
    assert "'class 3' never appear" in finding.sentence
    # Of twenty pictures two would have been of that class: its absence says nothing.
    few = np.array([3, 2, 2, 0, 3, 2, 2, 2, 2, 2])
    assert verdicts.class_histogram(few, np.full(10, 600), NAMES).verdict == "good"


def test_rare_classes_are_named_the_rarest_first():
    generated = np.array([10, 40, 150, 150, 150, 100, 100, 100, 100, 100])
    finding = verdicts.class_histogram(generated, np.full(10, 600), NAMES)
    assert finding.verdict == "watch"
    assert "'class 0', 'class 1' come too seldom" in finding.sentence
    everything = np.eye(10, dtype=int)[4] * 1000
    assert verdicts.class_histogram(everything, np.full(10, 600), NAMES).verdict == "bad"


def test_tags_are_compared_one_by_one():
    data = np.array([500, 100, 900])
    names = ("red", "blue", "green")
    assert verdicts.tag_rates(data, 1000, data, 1000, names).value == 0
    off = verdicts.tag_rates(np.array([500, 190, 900]), 1000, data, 1000, names)
    assert (off.verdict, off.value) == ("watch", pytest.approx(0.09))
    assert "'blue' are off" in off.sentence
    wrong = verdicts.tag_rates(np.array([150, 100, 900]), 1000, data, 1000, names)
    assert wrong.verdict == "bad"
    gone = verdicts.tag_rates(np.array([500, 0, 900]), 1000, data, 1000, names)
    assert gone.verdict == "bad"
    assert "'blue' never appear" in gone.sentence


def test_the_score_gap_is_that_of_ada():
    random = _random()
    train = random.normal(2, 1, 500)
    overfit = verdicts.score_gap(train, random.normal(-1, 1, 500), random.normal(-2, 1, 500))
    assert _verdicts(overfit) == ["bad", "bad"]
    assert overfit[0].value == pytest.approx(0.75, abs=0.05)
    assert overfit[1].value == pytest.approx(1, abs=0.01)
    fine = verdicts.score_gap(train, random.normal(2, 1, 500), random.normal(-2, 1, 500))
    assert _verdicts(fine) == ["good", "good"]
    slight = verdicts.score_gap(train, random.normal(1, 1, 500), random.normal(-1, 1, 500))
    assert _verdicts(slight) == ["watch", "bad"]


def test_exploded_scores_are_seen_without_held_out_pictures():
    scores = _random().normal(0, 1, 100)
    assert verdicts.score_scale(scores + 40, scores - 40).verdict == "good"
    exploded = verdicts.score_scale(2e4 * np.ones((5, 3, 3)), -2e4 + scores)
    assert exploded.verdict == "bad" and exploded.value == pytest.approx(4e4, rel=1e-3)
    assert "scores explode" in exploded.sentence
    assert math.isnan(verdicts.score_scale(NOTHING, scores).value)


def test_scores_of_patches_are_averaged():
    maps = np.array([[[1.0, 3.0]], [[2.0, 4.0]], [[5.0, 5.0]]])
    means = maps.mean((1, 2))
    assert verdicts.score_gap(maps, maps[:2], -maps) == verdicts.score_gap(means, means[:2], -means)


def test_no_ratio_without_a_gap_to_generated_pictures():
    ratio, recognized = verdicts.score_gap(np.zeros(5), np.zeros(5), np.ones(5))
    assert math.isnan(ratio.value)
    assert "does not tell" in ratio.sentence
    assert recognized.verdict == "good"


@pytest.mark.parametrize(
    ("skipped", "updates", "verdict"),
    [(0, 1000, "good"), (1, 1000, "watch"), (11, 1000, "bad"), (0, 0, "watch")],
)
def test_skipped_updates(skipped, updates, verdict):
    assert verdicts.skipped_updates(skipped, updates).verdict == verdict


NOTHING = np.full(5, np.nan)


@pytest.mark.parametrize("other", [NOTHING, np.zeros(0), np.zeros(5), np.array([1, np.inf, 2])])
def test_nothing_to_measure_is_said(other):
    findings = [
        *verdicts.memorization(NOTHING, other, "pixels"),
        *verdicts.memorization(other, NOTHING, "pixels"),
        verdicts.duplicates(NOTHING, other, "pixels"),
        verdicts.duplicates(other, NOTHING, "pixels"),
        *verdicts.score_gap(NOTHING, other, other),
        *verdicts.score_gap(other, other, NOTHING),
        verdicts.class_histogram(NOTHING, other, NAMES[:5]),
        verdicts.class_histogram(other, NOTHING, NAMES[:5]),
        verdicts.tag_rates(NOTHING, 5, other, 5, NAMES[:5]),
        verdicts.tag_rates(other, 5, NOTHING, 5, NAMES[:5]),
    ]
    for finding in findings:
        assert math.isnan(finding.value)
        assert finding.verdict == "watch"
        assert finding.sentence.startswith("Not measured: ")


def test_what_is_not_finite_is_left_out():
    good = _random().gamma(9, size=200)
    some = np.concatenate([good, [np.nan, np.inf]])
    assert verdicts.memorization(some, good, "pixels") == verdicts.memorization(
        good, good, "pixels"
    )
