"""Pictures of the user's own, translated by the script and from Python."""

import numpy as np
import pytest
from commands import run
from PIL import Image

import jaxgan
from jaxgan.errors import DataError, UsageError
from jaxgan.sampling.given import read_pictures


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The workdir of a StarGAN that has hardly begun, between four shapes."""
    workdir = tmp_path_factory.mktemp("star") / "run"
    small = {"width": 2, "blocks": 1, "discriminator_width": 2, "discriminator_layers": 1}
    made = run(
        "train",
        *("--model=stargan", "--dataset=shapes", "--image_size=8", "--num_examples=16"),
        *("--batch_size=8", "--steps=1", "--num_samples=8", f"--workdir={workdir}"),
        *(f"--set={name}={value}" for name, value in (small | {"group": 2, "n_critic": 1}).items()),
    )
    assert made.status == 0, made.err
    return workdir


@pytest.fixture
def pictures(tmp_path):
    """A folder of two pictures, one of which is larger and not square."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (8, 8), (200, 100, 0)).save(folder / "a.png")
    Image.new("RGB", (30, 20), (0, 100, 200)).save(folder / "b.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


def _run(workdir, *arguments):
    return run("sample", f"--workdir={workdir}", *arguments)


def _pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_the_grids_of_a_run_translate_held_out_pictures(trained):
    columns = 1 + len(jaxgan.open_run(trained).labels())
    grid = _pixels(trained / "samples" / "step_00000001.png")
    held_out = jaxgan.load_data("shapes", image_size=8, num_examples=16, split="holdout").images
    assert grid.shape[1] == columns * 66 - 2
    np.testing.assert_array_equal(grid[-64::8, :64:8], held_out[0])
    made = _run(trained, "--num=1", f"--out={trained / 'grid.png'}")
    assert made.status == 0, made.err
    np.testing.assert_array_equal(_pixels(trained / "grid.png"), grid)


def test_a_row_a_picture_a_column_a_label_the_picture_first(trained, pictures, tmp_path):
    run = jaxgan.open_run(trained)
    one, other = run.spec.label_names[:2]
    out = tmp_path / "x.png"
    made = _run(trained, f"--input={pictures}", f"--labels={other};{one}", f"--out={out}")
    assert made.status == 0, made.err
    assert "b.png has 30x20 pixels; its central square is resized to 8x8\n" in made.out
    sheet = _pixels(out)[-130:]
    assert sheet.shape == (130, 3 * 66 - 2, 3)
    assert (sheet[:64, :64] == [200, 100, 0]).all() and (sheet[66:, :64] == [0, 100, 200]).all()
    images, _ = read_pictures(pictures, 8, 3)
    translated = run.translate(images, f"{other};{one}")
    assert translated.shape == (2, 2, 8, 8, 3)
    np.testing.assert_array_equal(sheet[66::8, 132::8], translated[1, 1])

    made = _run(trained, f"--input={pictures}", f"--labels={other}", f"--out={tmp_path / 'x.npz'}")
    assert made.status == 0, made.err
    with np.load(tmp_path / "x.npz") as file:
        np.testing.assert_array_equal(file["images"], translated[:, 0])
        assert file["labels"].argmax(1).tolist() == [1, 1]
    flags = (f"--input={pictures / 'a.png'}", f"--labels={other};{one}", f"--out={tmp_path / 'x'}")
    assert _run(trained, *flags).status == 0
    lines = (tmp_path / "x" / "labels.csv").read_text().splitlines()
    assert lines == [f"000000.png,{other}", f"000001.png,{one}"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--input=nowhere.png",), "nowhere.png cannot be read: No such file"),
        (("--input=PICTURES/notes.txt",), "notes.txt is not a picture"),
        (("--input=PICTURES", "--labels=gray cub"), "'gray cub' (did you mean 'gray cube'?)"),
        (("--input=PICTURES", "--truncation=.5"), "--truncation works on intermediate latents"),
        (("--input=PICTURES", "--interpolate=3"), "--interpolate=3 walks between latents"),
    ],
)
def test_what_does_not_go_together_is_one_line(trained, pictures, arguments, error):
    arguments = [text.replace("PICTURES", str(pictures)) for text in arguments]
    refused = _run(trained, *arguments)
    assert refused.status == 1 and error in refused.err
    assert len(refused.err.strip().splitlines()) == 1


def test_a_folder_without_pictures_and_noise_in_place_of_pictures(trained, tmp_path):
    with pytest.raises(DataError, match="no pictures|none"):
        read_pictures(tmp_path, 8, 3)
    with pytest.raises(UsageError, match="translates pictures: give some"):
        jaxgan.open_run(trained).sample(4)
