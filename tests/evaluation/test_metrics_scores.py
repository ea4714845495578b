"""Inception Score, accuracy and modes: what a classifier's answers say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxgan.errors import UsageError
from jaxgan.evaluation.distances.accuracy import hits
from jaxgan.evaluation.distances.inception_score import inception_score, softmax
from jaxgan.evaluation.distances.modes import count_modes, stacked_modes

LOGITS = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32) * 3


@pytest.mark.parametrize("splits", [1, 10])
def test_sure_and_even_answers_score_the_number_of_classes(splits):
    p = np.tile(np.eye(4), (10, 1))
    np.testing.assert_allclose(inception_score(p, splits=splits), [4, 0], atol=1e-12)


def test_constant_answers_score_1():
    for row in ([1.0, 0, 0, 0], [0.25] * 4, [0.7, 0.1, 0.1, 0.1]):
        score = inception_score(np.tile(row, (30, 1)))
        np.testing.assert_allclose(score, [1, 0], atol=1e-12)


def test_each_split_is_scored_alone():
    p = softmax(LOGITS)

    def plain(part):
        return np.exp((part * (np.log(part) - np.log(part.mean(0)))).sum(1).mean())

    parts = [plain(part) for part in np.split(p, 4)]
    np.testing.assert_allclose(inception_score(p, splits=4), [np.mean(parts), np.std(parts)])
    # Where the count is no multiple, the official code's part i is [i * N // 4, (i + 1) * N // 4).
    p = p[: len(p) // 4 * 4 - 2]
    bounds = [i * len(p) // 4 for i in range(5)]
    parts = [plain(p[bounds[i] : bounds[i + 1]]) for i in range(4)]
    np.testing.assert_allclose(inception_score(p, splits=4), [np.mean(parts), np.std(parts)])


def test_softmax_bears_large_logits():
    np.testing.assert_allclose(softmax(LOGITS + 1e3), softmax(LOGITS), rtol=1e-3)
    np.testing.assert_allclose(softmax([[-1e4, 1e4]]), [[0, 1]])
    np.testing.assert_allclose(softmax(LOGITS).sum(1), 1)


@given(order=st.permutations(range(5)))
def test_the_score_does_not_know_the_order_of_classes(order):
    p = softmax(LOGITS)
    np.testing.assert_allclose(inception_score(p[:, order]), inception_score(p), rtol=1e-9)


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(UsageError, match="softmax"):
        inception_score(LOGITS)
    with pytest.raises(UsageError, match="are 9 and at least 10"):
        inception_score(softmax(LOGITS[:9]))
    with pytest.raises(UsageError, match="not finite"):
        softmax(LOGITS * np.nan)


def test_a_class_is_read_if_its_logit_is_the_highest():
    asked = np.random.default_rng(1).integers(0, 5, 60)
    found = hits(LOGITS, np.eye(5)[asked])
    np.testing.assert_array_equal(found.found, LOGITS.argmax(1) == asked)
    assert found.accuracy() == (LOGITS.argmax(1) == asked).mean()


def test_tags_are_read_among_as_many_as_were_asked_for():
    logits = [[3, 2, 1, 0], [3, 2, 1, 0], [0, 1, 2, 3], [9, 8, 7, 6]]
    labels = [[1, 1, 0, 0], [1, 0, 0, 1], [1, 1, 1, 0], [0, 0, 0, 0]]
    found = hits(logits, labels)
    np.testing.assert_array_equal(found.found, [2, 1, 2, 0])
    np.testing.assert_array_equal(found.asked, [2, 2, 3, 0])
    assert found.accuracy() == 5 / 7  # of labels, not the mean over pictures


def test_of_equal_logits_the_first_is_the_highest():
    labels = np.eye(40)
    np.testing.assert_array_equal(hits(np.zeros((40, 40)), labels).found, labels[0])


def test_labels_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match=r"\(60, 5\) and labels \(60, 4\)"):
        hits(LOGITS, np.zeros((60, 4)))
    with pytest.raises(UsageError, match="0 or 1"):
        hits(LOGITS, np.full((60, 5), 0.9))
    with pytest.raises(UsageError, match="0 or 1"):
        hits(LOGITS, np.zeros((60, 5)))


def test_all_modes_once_are_no_divergence():
    digits = np.stack(np.meshgrid(*[np.arange(10)] * 3, indexing="ij"), -1).reshape(-1, 3)
    modes = stacked_modes(digits)
    np.testing.assert_array_equal(modes, np.arange(1000))
    assert count_modes(modes) == (1000, pytest.approx(0, abs=1e-12))


def test_the_divergence_counts_what_is_missing():
    assert count_modes(np.full(50, 7)) == (1, pytest.approx(np.log(1000)))
    assert count_modes(np.arange(250)) == (250, pytest.approx(np.log(4)))
    assert count_modes([0, 0, 0, 1], 2) == (2, pytest.approx(0.75 * np.log(1.5) - 0.25 * np.log(2)))
