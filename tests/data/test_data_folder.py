"""Folders and zips of pictures."""

import errno
import fcntl
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxgan import files
from jaxgan.data import DataError, load
from jaxgan.data.pictures import SUFFIXES
from jaxgan.data.spec import Request, part_of


def picture(i: int) -> Image.Image:
    return Image.fromarray(np.full((12, 12, 3), i, np.uint8))


@pytest.fixture
def folder(tmp_path):
    """Ten pictures, number i all of gray i, some in a subfolder, beside files that are none."""
    root = tmp_path / "pictures"
    (root / "more").mkdir(parents=True)
    for i in range(10):
        name = f"{i}.PNG" if i < 5 else f"more/{i}.bmp"
        picture(i).save(root / name)
    (root / "notes.txt").write_text("not a picture")
    (root / "._0.png").write_bytes(b"what macOS leaves behind")
    return root


@pytest.fixture
def load_it(tmp_path):
    def load_folder(data_dir, name="folder", **settings):
        return load(name, data_dir=data_dir, cache_dir=tmp_path / "cache", **settings)

    return load_folder


def packed(folder, target, top="", compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(target, "w", compression) as archive:
        for root, _, files in os.walk(folder):
            for name in files:
                path = os.path.join(root, name)
                archive.write(path, top + os.path.relpath(path, folder))
    return target


def grays(dataset):
    return dataset.images[:, 0, 0, 0].tolist()


def test_nested_pictures_in_the_order_of_their_names(folder, load_it):
    dataset = load_it(folder, image_size=8)
    assert grays(dataset) == list(range(10))
    assert dataset.images.shape == (10, 8, 8, 1) and dataset.images.dtype == np.uint8
    assert dataset.labels is None and len(dataset) == 10
    assert dataset.spec == ("folder", 8, 1, None, (), False)


def test_the_default_size_is_64(folder, load_it):
    assert load_it(folder).images.shape == (10, 64, 64, 1)


@pytest.mark.parametrize("top", ["", "faces/"])
def test_a_zip_equals_its_folder(folder, load_it, tmp_path, top):
    packed_to = packed(folder, tmp_path / "pictures.zip", top)
    for settings in [{}, {"holdout": 0.5}, {"holdout": 0.5, "split": "holdout"}]:
        one, other = load_it(folder, **settings), load_it(packed_to, **settings)
        np.testing.assert_array_equal(one.images, other.images)
        assert one.fingerprint == other.fingerprint


def test_touched_or_moved_pictures_are_the_same_and_changed_ones_are_not(folder, load_it):
    before = load_it(folder).fingerprint
    os.utime(folder / "3.PNG", (1, 1))
    moved = folder.rename(folder.parent / "moved")
    assert load_it(moved).fingerprint == before
    picture(77).save(moved / "3.PNG")
    assert load_it(moved).fingerprint != before


@pytest.mark.parametrize("settings", [{"image_size": 32}, {"holdout": 0.5}, {"num_examples": 5}])
def test_settings_that_change_the_pictures_change_the_fingerprint(folder, load_it, settings):
    assert load_it(folder).fingerprint != load_it(folder, **settings).fingerprint


def test_num_examples_takes_the_first(folder, load_it):
    assert grays(load_it(folder, num_examples=4)) == [0, 1, 2, 3]
    with pytest.raises(DataError, match="num_examples=11 were asked for .* has 10"):
        load_it(folder, num_examples=11)


def test_held_out_pictures_are_disjoint_and_stay_when_others_come(folder, load_it):
    def parts():
        settings = {"holdout": 0.4}
        train = grays(load_it(folder, **settings))
        return set(train), set(grays(load_it(folder, split="holdout", **settings)))

    train, held = parts()
    assert train and held and train.isdisjoint(held) and train | held == set(range(10))
    for i in range(10, 20):
        picture(i).save(folder / f"{i}.png")
    more_train, more_held = parts()
    assert train <= more_train and held <= more_held


def test_the_held_out_fraction_is_what_was_asked_for():
    request = Request("any", None, None, "holdout", 0.1, False, Path("unused"), None, 0)
    held = part_of(request, (f"{i}.jpg" for i in range(10_000)))
    assert 850 < len(held) < 1150  # the standard deviation is 30


def test_holding_out_needs_a_fraction(folder, load_it):
    with pytest.raises(DataError, match="no held-out part of its own; .* holdout=0.1"):
        load_it(folder, split="holdout")


def test_a_part_without_pictures_is_an_error(folder, load_it):
    with pytest.raises(DataError, match="none of the 10 pictures .* left for the part 'holdout'"):
        load_it(folder, split="holdout", holdout=1e-9)


@pytest.fixture
def damaged(folder):
    (folder / "2.PNG").write_bytes(b"")
    good = (folder / "more" / "7.bmp").read_bytes()
    (folder / "more" / "7.bmp").write_bytes(good[:60])
    return folder


def test_enlarged_pictures_are_counted(folder, load_it, caplog):
    Image.new("RGB", (40, 30)).save(folder / "large.png")
    load_it(folder, image_size=12)
    assert "enlarged" not in caplog.text
    for _ in range(2):  # decoded, then from the cache
        caplog.clear()
        load_it(folder, image_size=30)
        assert "10 of 11 pictures" in caplog.text and "smaller than 30 px" in caplog.text


def test_corrupt_pictures_are_named(damaged, load_it):
    for _ in range(2):  # decoded, then from the cache
        with pytest.raises(DataError, match=r"2 of 10 .*2.PNG \(zero bytes\); more/7.bmp \(.*skip"):
            load_it(damaged)


def test_what_is_no_picture_is_named_without_an_address_in_memory(folder, load_it, tmp_path):
    (folder / "more" / "7.bmp").write_bytes(b"no picture")
    for source in (folder, packed(folder, tmp_path / "pictures.zip")):
        with pytest.raises(DataError, match=r": more/7.bmp \(no known kind of picture\); repair"):
            load_it(source)


def test_corrupt_pictures_are_skipped_and_counted(damaged, load_it, caplog):
    assert grays(load_it(damaged, skip_corrupt=True)) == [0, 1, 3, 4, 5, 6, 8, 9]
    assert "2 of 10 pictures" in caplog.text and "skipped" in caplog.text


def test_a_damaged_member_of_a_zip_is_corrupt(folder, load_it, tmp_path):
    path = packed(folder, tmp_path / "pictures.zip")
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        data[archive.getinfo("more/8.bmp").header_offset + 100] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"1 of 10 .*more/8.bmp \(Bad CRC-32"):
        load_it(path)


def test_no_damage_to_a_zip_raises_anything_else(folder, load_it, tmp_path):
    path = packed(folder, tmp_path / "pictures.zip", compression=zipfile.ZIP_DEFLATED)
    good, rng, failed = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(150):
        bad = bytearray(good)
        for where in rng.integers(0, len(bad), 3):
            bad[where] ^= 1 << rng.integers(8)
        path.write_bytes(bad)
        try:
            load_it(path, image_size=8)
        except DataError:
            failed += 1
    assert failed > 50


def test_all_pictures_corrupt_is_an_error(tmp_path, load_it):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match="none of the 1 pictures"):
        load_it(tmp_path / "pictures", skip_corrupt=True)


def test_missing_empty_and_other_things_are_errors(tmp_path, load_it):
    with pytest.raises(DataError, match="needs data_dir"):
        load_it(None)
    with pytest.raises(DataError, match="nowhere does not exist"):
        load_it(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no pictures; files that end in .jpg"):
        load_it(tmp_path / "empty")
    (tmp_path / "letter").write_text("dear reader")
    with pytest.raises(DataError, match="neither a folder nor a whole .zip"):
        load_it(tmp_path / "letter")


def test_a_link_that_points_nowhere_is_named(folder, load_it):
    (folder / "link.png").symlink_to(folder / "gone.png")
    with pytest.raises(DataError, match="1 of 11 .* link.png .it cannot be read: No such file"):
        load_it(folder)


def test_pictures_that_cannot_be_read_are_skipped_and_counted(folder, load_it, monkeypatch, caplog):
    (folder / "link.png").symlink_to(folder / "gone.png")
    regular = files.regular

    def refuses(path):
        if closed and os.path.basename(path).startswith("3"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return regular(path)

    monkeypatch.setattr(files, "regular", refuses)
    closed = True
    assert grays(load_it(folder, skip_corrupt=True)) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert "2 of 11 pictures" in caplog.text
    assert "it cannot be read: Permission denied" in caplog.text
    closed = False  # and once it can be read, it is there
    assert grays(load_it(folder, skip_corrupt=True)) == [*range(10)]
    # A disk that fails is no picture's fault.
    monkeypatch.setattr(files, "regular", _fails)
    with pytest.raises(DataError, match="cannot be read .Input/output error"):
        load_it(folder, skip_corrupt=True)


def _fails(path):
    raise OSError(errno.EIO, "Input/output error", str(path))


@pytest.mark.parametrize("place", ["anime", "anime-faces"])
def test_anime_is_found_in_its_places(folder, load_it, tmp_path, place):
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    packed_to = packed(folder, data_dir / f"{place}.zip")
    assert len(load_it(data_dir, "anime")) == 10
    assert len(load_it(packed_to, "anime")) == 10
    packed_to.unlink()
    folder.rename(data_dir / place)
    assert len(load_it(data_dir, "anime")) == 10
    assert len(load_it(data_dir / place, "anime")) == 10


def test_missing_anime_says_where_it_belongs(load_it, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGAN_DATA", str(tmp_path / "here"))
    with pytest.raises(DataError, match=f"{tmp_path / 'here'}; put a folder or .zip"):
        load_it(None, "anime")


def test_gray_until_the_first_color(tmp_path, load_it):
    root = tmp_path / "many"
    root.mkdir()
    for i in range(40):
        picture(i).save(root / f"{i:02d}.png")
    size = {"image_size": 256}  # a few pictures a chunk
    gray = load_it(root, **size)
    assert gray.spec.channels == gray.images.shape[-1] == 1
    rgb = load_it(root, channels=3, **size)
    np.testing.assert_array_equal(rgb.images, gray.images.repeat(3, -1))
    assert load_it(root, reading=1, **size).fingerprint == rgb.fingerprint != gray.fingerprint
    Image.new("RGB", (12, 12), (9, 0, 0)).save(root / "30.png")
    mixed = load_it(root, **size)
    assert mixed.spec.channels == 3 and mixed.images[:, 0, 0].tolist() == [
        [i, i, i] if i != 30 else [9, 0, 0] for i in range(40)
    ]
    assert load_it(root, channels=1, **size).images[30, 0, 0].tolist() == [3]
    with pytest.raises(DataError, match="channels=3 is for pictures in files"):
        load_it(None, "glyphs", channels=3, num_examples=4, image_size=8)


def test_more_formats_are_read_and_others_counted(folder, load_it, caplog):
    picture(10).save(folder / "a.tiff")
    picture(11).save(folder / "b.gif", save_all=True, append_images=[picture(99)])
    picture(12).convert("L").save(folder / "c.TIF", compression="tiff_lzw")
    for name in ("d.heic", "e.HEIC", "f.svg"):
        (folder / name).write_bytes(b"x")
    assert grays(load_it(folder)) == [*range(10), 10, 11, 12][:5] + [10, 11, 12, *range(5, 10)]
    assert "passed over are 2 .heic, 1 .svg; convert them" in caplog.text
    assert grays(load_it(folder, reading=1)) == list(range(10))
    if ".avif" in SUFFIXES:
        picture(50).save(folder / "z.avif", quality=100)
        assert abs(grays(load_it(folder))[-1] - 50) <= 2


def test_what_a_killed_preparation_left_goes_at_the_next_start(folder, load_it, tmp_path):
    load_it(folder)
    left = tmp_path / "cache" / f".folder-{'0' * 16}.{'a' * 16}"
    busy = tmp_path / "cache" / f".folder-{'1' * 16}.{'b' * 16}"
    for path in (left, busy):
        path.mkdir()
        path.with_suffix(".lock").touch()
    with open(busy.with_suffix(".lock")) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        load_it(folder)
    assert not left.exists() and busy.exists()
