"""Every kind of picture becomes RGB squares in a defined way."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from jaxgan.data.pictures import CorruptPicture, decode, resize_all

RED, GREEN = (255, 0, 0), (0, 255, 0)


def encoded(picture: Image.Image, kind: str = "PNG", **settings) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **settings)
    return file.getvalue()


def filled(mode: str, color, size=(8, 8)) -> Image.Image:
    return Image.new(mode, size, color)


def palette_picture(transparent: bool) -> bytes:
    picture = filled("P", 0)
    picture.putpalette([255, 0, 0, 0, 255, 0])
    return encoded(picture, **({"transparency": 0} if transparent else {}))


def gray_16_bit() -> bytes:
    deep = np.full((8, 8), 100 * 257, np.uint16)
    return encoded(Image.fromarray(deep))


def rgb_16_bit() -> bytes:
    """A PNG of 8x8 pixels (100, 0, 200), 16 bits each, which Pillow reads and cannot write."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    rows = (b"\0" + struct.pack(">3H", 100 * 257, 0, 200 * 257) * 8) * 8
    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*parts) for parts in chunks)


def animated(kind: str) -> bytes:
    first, second = filled("RGB", RED), filled("RGB", GREEN)
    return encoded(first, kind, save_all=True, append_images=[second], lossless=True)


CASES = {
    "rgb": (encoded(filled("RGB", (10, 20, 30))), (10, 20, 30)),
    "bmp": (encoded(filled("RGB", (10, 20, 30)), "BMP"), (10, 20, 30)),
    "webp": (encoded(filled("RGB", (10, 20, 30)), "WEBP", lossless=True), (10, 20, 30)),
    "gray": (encoded(filled("L", 77)), (77, 77, 77)),
    "one bit": (encoded(filled("1", 1)), (255, 255, 255)),
    "gray 16 bit": (gray_16_bit(), (100, 100, 100)),
    "rgb 16 bit": (rgb_16_bit(), (100, 0, 200)),
    "gray alpha": (encoded(filled("LA", (0, 0))), (255, 255, 255)),
    "rgba opaque": (encoded(filled("RGBA", (10, 20, 30, 255))), (10, 20, 30)),
    "rgba clear": (encoded(filled("RGBA", (10, 20, 30, 0))), (255, 255, 255)),
    "rgba half": (encoded(filled("RGBA", (0, 100, 200, 51))), (204, 224, 244)),
    "palette": (palette_picture(transparent=False), RED),
    "palette clear": (palette_picture(transparent=True), (255, 255, 255)),
    "animated webp": (animated("WEBP"), RED),
    "animated png": (animated("PNG"), RED),
}


@pytest.mark.parametrize("name", CASES)
def test_modes(name):
    data, color = CASES[name]
    image = decode(data, 4)
    assert image.dtype == np.uint8 and image.shape == (4, 4, 3)
    np.testing.assert_array_equal(image, np.broadcast_to(np.array(color, np.uint8), (4, 4, 3)))


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [("RGB", RED, RED), ("L", 77, (77, 77, 77)), ("CMYK", (0, 255, 255, 0), RED)],
)
def test_jpegs(mode, color, expected):
    image = decode(encoded(filled(mode, color), "JPEG", quality=95), 8)
    np.testing.assert_allclose(image.astype(int) - expected, 0, atol=3)


def test_the_middle_square_is_kept():
    wide = np.zeros((4, 10, 3), np.uint8)
    wide[:, 3:7] = np.arange(48).reshape(4, 4, 3)
    for picture, expected in [
        (wide, wide[:, 3:7]),
        (wide.swapaxes(0, 1), wide[:, 3:7].swapaxes(0, 1)),
    ]:
        image = decode(encoded(Image.fromarray(np.ascontiguousarray(picture))), 4)
        np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("width", [24, 32, 40, 47])
def test_shrinking_keeps_a_ramp_a_ramp(width):
    ramp = np.linspace(0, 250, width)
    picture = np.tile(ramp.round().astype(np.uint8), (width, 1))
    row = decode(encoded(Image.fromarray(picture)), 16)[8, 1:-1, 0]
    centers = (np.arange(1, 15) + 0.5) * width / 16 - 0.5
    np.testing.assert_allclose(row, np.interp(centers, np.arange(width), ramp), atol=1.5)


def test_shrinking_averages_fine_detail_away():
    board = np.indices((64, 64)).sum(0) % 2 * 200
    image = decode(encoded(Image.fromarray(board.astype(np.uint8))), 16)
    np.testing.assert_allclose(image, 100, atol=1)


def test_shrinking_does_not_ring():
    step = np.repeat(np.array([50, 200], np.uint8), 32)
    image = decode(encoded(Image.fromarray(np.tile(step, (64, 1)))), 16)
    assert image.min() == 50 and image.max() == 200


def test_a_constant_picture_stays_so_when_enlarged():
    image = decode(CASES["rgb"][0], 30)
    assert (image == (10, 20, 30)).all()


def test_a_large_jpeg_is_near_its_area_average():
    ramp = np.linspace(0, 255, 512).astype(np.uint8)
    picture = np.stack([np.tile(ramp, (512, 1))] * 3, -1)
    image = decode(encoded(Image.fromarray(picture), "JPEG", quality=95), 32)
    np.testing.assert_allclose(
        image[..., 0], picture.reshape(32, 16, 32, 16, 3).mean((1, 3))[..., 0], atol=3
    )


def test_exif_orientation_is_applied():
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:4] = 255  # bright above
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it by 90 degrees clockwise to see it
    image = decode(encoded(Image.fromarray(picture), "JPEG", exif=exif, quality=95), 8)
    assert image[:, 5:].min() > 240 and image[:, :3].max() < 15


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "zero bytes"),
        (b"not a picture at all", "^no known kind of picture$"),
        (encoded(filled("RGB", RED, (64, 64)), "JPEG")[:300], "Truncated"),
        (encoded(filled("RGB", RED, (64, 64)), "BMP")[:300], "truncated"),
        (CASES["webp"][0][:20], "could not create decoder"),
    ],
)
def test_damaged_bytes_are_named_so(data, words):
    with pytest.raises(CorruptPicture, match=words):
        decode(data, 8)


# Pillow warns of some damage that it can live with.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_no_damage_raises_anything_else(kind):
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8))
    good = np.frombuffer(encoded(noise, kind), np.uint8)
    for _ in range(150):
        bad = good.copy()
        where = rng.integers(0, min(len(bad), 200), 4)
        bad[where] = rng.integers(0, 256, 4)
        try:
            image = decode(bad.tobytes()[: rng.integers(1, len(bad) + 1)], 8)
        except CorruptPicture:
            continue
        assert image.shape == (8, 8, 3)


@pytest.mark.parametrize(("channels", "result"), [(1, 1), (3, 3), (4, 3)])
def test_arrays_of_pictures_are_resized(channels, result):
    images = np.full((3, 6, 4, channels), 255, np.uint8)
    assert resize_all(images, 2, "here").shape == (3, 2, 2, result)
    square = np.zeros((3, 4, 4, 3), np.uint8)
    assert resize_all(square, 4, "here") is square


def test_arrays_that_are_enlarged_are_told(caplog):
    images = np.zeros((3, 4, 4, 1), np.uint8)
    resize_all(images, 2, "here")
    assert "enlarged" not in caplog.text
    resize_all(images, 6, "here")
    assert "3 of 3 pictures in here are smaller than 6 px" in caplog.text
