"""The verdict sees what is broken, calls it by its name, and lets whole pictures be."""

import gallery
import pytest
from commands import CACHE

NO_COLLAPSE = ("average", "blank", "noise", "shuffled", "noisy", "blobs", "saturated", "exploded")


@pytest.fixture(scope="module", params=["glyphs", pytest.param("shapes", marks=pytest.mark.slow)])
def found(request):
    """The findings of each case by name."""
    return {
        case: {finding.name: finding for finding in findings}
        for case, _, findings in gallery.judged(request.param, 200, CACHE / "jaxgan")
    }


def test_whole_pictures_are_not_bad(found):
    whole = [case for case, made in gallery.CASES.items() if made.is_whole]
    bad = {case: [f for f in found[case].values() if f.verdict == "bad"] for case in whole}
    assert len(whole) == 4 and not any(bad.values()), bad


def test_what_is_broken_is_called_by_its_name(found):
    missed = {
        case: {name: finding.verdict for name, finding in found[case].items()}
        for case, made in gallery.CASES.items()
        if made.said
        and all(
            name not in found[case] or found[case][name].verdict == "good" for name in made.said
        )
    }
    assert not missed


def test_what_is_broken_is_bad(found):
    """But for what only the eye, a classifier or more pictures tell."""
    told = {case for case in found if any(f.verdict == "bad" for f in found[case].values())} | {
        "half of the classes",
        "halves of two",
        "shifted by a third",
    }
    assert {case for case, made in gallery.CASES.items() if not made.is_whole} <= told


def test_no_noise_is_taken_for_mode_collapse_nor_called_varied(found):
    for case in (case for case in found if any(word in case for word in NO_COLLAPSE)):
        if gallery.CASES[case].is_whole:
            continue
        for finding in found[case].values():
            assert "mode collapse" not in finding.sentence, (case, finding)
            assert "as varied" not in finding.sentence, (case, finding)
