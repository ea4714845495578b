"""Pictures from anywhere, measured by the command: folders, zips, arrays, statistics."""

import zipfile

import numpy as np
import pytest
from commands import run
from PIL import Image

ASKED = ("--features=random", "--metrics=prdc", "--batch_size=40")


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """A folder, a zip of the same pictures, an array of others, and noise."""
    root = tmp_path_factory.mktemp("sets")
    random = np.random.default_rng(0)
    ramps = random.uniform(0, 255, (220, 1, 8, 3)) * np.linspace(0.2, 1, 8)[:, None, None]
    images = np.round(ramps).astype(np.uint8)
    (root / "real").mkdir()
    for number, image in enumerate(images[:110]):
        Image.fromarray(image).save(root / "real" / f"{number:03d}.png")
    with zipfile.ZipFile(root / "real.zip", "w") as archive:
        for path in sorted((root / "real").iterdir()):
            archive.write(path, path.name)
    np.savez(root / "others.npz", images=images[110:])
    np.savez(root / "noise.npz", images=random.integers(0, 256, images.shape, np.uint8))
    return root


def _evaluate(sets, pictures, reference, *more):
    return run(
        "evaluate",
        f"--pictures={sets / pictures}",
        f"--reference={sets / reference}",
        *ASKED,
        *more,
    )


def _coverage(made):
    (line,) = [line for line in made.out.splitlines() if line.startswith("  coverage")]
    return float(line.split()[1])


def test_arrays_are_measured_against_a_folder_and_its_statistics(sets):
    kept = f"--save_reference={sets / 'stats.npz'}"
    made = _evaluate(sets, "others.npz", "real", kept)
    assert made.status == 0, made.err
    assert "110 pictures against 110 of" in made.out and " good: " in made.out
    again = _evaluate(sets, "others.npz", "stats.npz")
    assert again.status == 0, again.err
    assert _coverage(again) == _coverage(made) > 0.5 and " good: " not in again.out
    noise = _evaluate(sets, "noise.npz", "real.zip", "--image_size=8")
    assert _coverage(noise) == 0 and "  bad: Samples are noise" in noise.out


@pytest.mark.parametrize(
    ("pictures", "reference", "more", "said"),
    [
        ("others.npz", "real", ["--metrics=accuracy"], "this model takes none"),
        ("stats.npz", "real", [], "holds statistics; name pictures"),
        ("empty.npz", "real", [], "holds neither images"),
        ("nowhere.npz", "real", [], "nowhere.npz cannot be read"),
        ("nowhere", "real", [], "nowhere"),
        ("others.npz", "gray.npz", [], "bring them to one size"),
        ("others.npz", "strange.npz", [], "name theirs by --features"),
        ("others.npz", "real", ["--workdir=x"], "name a run by --workdir, or two sets"),
    ],
)
def test_what_cannot_be_compared_is_said_in_a_line(sets, pictures, reference, more, said):
    np.savez(sets / "empty.npz", nothing=np.zeros(3))
    np.savez(sets / "gray.npz", images=np.zeros((110, 4, 4, 1), np.uint8))
    if not (sets / "stats.npz").exists():
        kept = f"--save_reference={sets / 'stats.npz'}"
        assert _evaluate(sets, "others.npz", "others.npz", kept).status == 0
    with np.load(sets / "stats.npz") as file:
        arrays = dict(file)
    arrays["about"] = np.array(str(arrays["about"]).replace('"digest": "', '"digest": "0'))
    np.savez(sets / "strange.npz", **arrays)
    refused = _evaluate(sets, pictures, reference, *more)
    assert refused.status == 1 and refused.err.count("\n") == 1, refused
    assert said in refused.err
