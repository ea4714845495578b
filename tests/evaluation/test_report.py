"""The page of a run: whole, safe, and readable in a browser."""

import base64
import html.parser
import io
import json
import pathlib
import re
import shutil
import subprocess
import tomllib

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

import jaxgan
from jaxgan.evaluation import report
from jaxgan.evaluation.history import Entry
from jaxgan.evaluation.picture_findings import NearestPictures, Scale
from jaxgan.evaluation.protocol import Measured, Protocol
from jaxgan.evaluation.verdicts import Finding

EVIL = "<script>alert('x')</script>"
PINK = (255, 0, 128)
VOID = {"meta", "img", "source", "br"}


class _Page(html.parser.HTMLParser):
    """All elements with their attributes; fails where tags do not match."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def _pictures(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


NAN = Measured(float("nan"))


def _entry(step, features="pixels", **metrics):
    protocol = Protocol(features, "0" * 64, "none", "noise", "f", 8, 8, "none", "averaged", 1.0, 0)
    return Entry(step, protocol, metrics)


def _full(name="anime"):
    rows = [
        {"step": k, "generator/loss": 1 / k, "discriminator/loss": None if k == 3 else 1.0}
        for k in range(1, 9)
    ]
    return report.Report(
        model="dcgan",
        dataset=name,
        samples=np.full((64, 64, 3), PINK, np.uint8),
        entry=_entry(1234, name, **{f"{name} kid": Measured(0.25, 0.125, 0.375)}, accuracy=NAN),
        findings=[
            Finding(f"calm {name}", 0.5, "good", f"All is well in {name}."),
            Finding("trouble", float("nan"), "bad", "It's broken."),
            Finding("doubt", 2.0, "watch", "Look."),
        ],
        training=rows,
        evaluations=[_entry(4, kid=Measured(0.5)), _entry(8, kid=Measured(0.25))],
        neighbors=[
            NearestPictures(name, _pictures(2, 4, 4, 3), _pictures(2, 3, 4, 4, 3)),
            NearestPictures("features", _pictures(2, 4, 4, 1), _pictures(2, 3, 4, 4, 1)),
        ],
        settings={"dataset": name, "config": {"width": 64}},
        scale=Scale({f"{name} kid": 0.0625}, 300, {f"{name} kid": 0.03125}, 500),
    )


def _decoded(uri):
    head, data = uri.split(",", 1)
    return head, base64.b64decode(data, validate=True)


def test_everything_is_on_the_page(tmp_path):
    path = tmp_path / "report.html"
    report.write(path, _full())
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    page = _Page(path.read_text("utf-8"))
    for text in (
        "dcgan on anime",
        "1,234",
        "1 bad, 1 to watch, 1 good",
        "All is well in anime.",
        "It's broken.",
        "0.125 to 0.375",
        "by a kernel; 0 on average for the data themselves. Lower is better.",
        "Higher is better.",
        "0.0625",
        "0.03125",
        "300 that were not trained on",
        "500 of the training's against as many others",
        "features: anime",
        '"width": 64',
    ):
        assert text in page.text
    verdicts = [a["class"] for a in page.all("span") if "verdict" in a["class"]]
    assert verdicts == ["verdict bad", "verdict watch", "verdict good"]  # the worst first
    for word in ("Bad", "Watch", "Good"):  # not by color alone
        assert re.search(rf"\b{word}\b", page.text)
    assert all(image["alt"] for image in page.all("img"))


def test_a_sweep_of_truncations_is_drawn():
    def entry(step, psi, **changes):
        numbers = {"precision": 1.2 - psi / 2, "recall": psi / 2, "pixels_frechet": psi}
        found = _entry(step, **{name: Measured(value) for name, value in numbers.items()})
        return found._replace(protocol=found.protocol._replace(truncation=psi, **changes))

    entries = [entry(8, psi) for psi in (1.0, 0.5, 0.7)]
    others = [entry(4, 0.9), entry(8, 0.3, num_generated=9)]
    sweep = report._truncations([*entries, *others], entries[0])
    assert [e.protocol.truncation for e in sweep] == [0.5, 0.7, 1.0]
    assert report._truncations([entries[0], *others], entries[0]) == []
    page = _Page(report.render(_full()._replace(truncations=sweep)))
    shown = [image["alt"] for image in page.all("img")]
    assert "pixels_frechet over psi" in shown and "precision over recall" in shown


def test_pictures_are_inside_and_nothing_is_fetched():
    page = _Page(report.render(_full()))
    uris = [a["src"] for a in page.all("img")] + [a["srcset"] for a in page.all("source")]
    # Samples, two kinds of neighbors; kid and loss in two colors.
    assert sorted(_decoded(uri)[0] for uri in uris) == (
        ["data:image/png;base64"] * 3 + ["data:image/svg+xml;base64"] * 4
    )
    assert not [a for _, a in page.elements if {"href", "action", "data"} & a.keys()]
    assert not page.all("script") and not page.all("link")
    style = re.sub(r"data:[^\"]*", "", report.render(_full()))
    assert not re.search(r"https?:|//|url\(|@import", style)


def test_pictures_come_back():
    whole = _full()
    pngs = [_decoded(a["src"]) for a in _Page(report.render(whole)).all("img")]
    pngs = [np.asarray(Image.open(io.BytesIO(d))) for head, d in pngs if "png" in head]
    np.testing.assert_array_equal(pngs[0], whole.samples)
    colored, gray = pngs[1:]
    samples, nearest = whole.neighbors[0].samples, whole.neighbors[0].nearest
    np.testing.assert_array_equal(colored[:4, :4], samples[0])
    np.testing.assert_array_equal(colored[6:, :4], samples[1])
    np.testing.assert_array_equal(colored[:4, 8:12], nearest[0, 0])
    np.testing.assert_array_equal(colored[6:, -4:], nearest[1, 2])
    assert gray.shape == colored.shape[:2]


def test_names_cannot_become_markup():
    text = report.render(_full(EVIL))
    page = _Page(text)
    assert EVIL not in text
    assert not page.all("script")
    # The title twice, a finding's name and sentence, a metric, its protocol, a caption, settings.
    assert page.text.count("alert('x')") == 8
    assert json.loads(page.text[page.text.index("{") : page.text.rindex("}") + 1]) == {
        "dataset": EVIL,
        "config": {"width": 64},
    }


def test_an_empty_report_is_a_title_and_samples():
    page = _Page(report.render(report.Report("gan", "mnist", _pictures(28, 28, 1), _entry(0))))
    assert len(page.all("img")) == 1
    assert len(page.all("h2")) == 1
    assert page.all("img")[0]["width"] == str(28 * 23)  # small pictures are enlarged


def test_equal_reports_are_equal_files():
    assert report.render(_full()) == report.render(_full())


def test_a_failed_write_leaves_the_old_page(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(TypeError):
        report.write(path, _full()._replace(settings={"not JSON": object()}))
    assert path.read_text() == "old"


def test_an_installation_has_the_page():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]
    package = pathlib.Path(jaxgan.__file__).parent
    shipped = {
        path
        for name, globs in patterns.items()
        for pattern in globs
        for path in package.parent.joinpath(*name.split(".")).glob(pattern)
    }
    others = {p for p in package.rglob("*.*") if p.suffix not in (".py", ".pyc")}
    assert package / "evaluation" / "report.html" in shipped
    assert others <= shipped


@pytest.fixture(scope="module")
def browse(tmp_path_factory):
    """Opens a page in a real browser: (path, arguments) -> what it printed."""
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip(f"needs one of {', '.join(names)}")
    profile = tmp_path_factory.mktemp("profile")

    def run(path, *arguments):
        return subprocess.run(
            [
                program,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                "--virtual-time-budget=2000",
                f"--user-data-dir={profile}",
                *arguments,
                path.as_uri(),
            ],
            check=True,
            capture_output=True,
            text=True,
            timeout=120,
        ).stdout

    return run


def test_a_browser_reads_the_page(tmp_path, browse):
    path = tmp_path / "report.html"
    report.write(path, _full(EVIL))
    page = _Page(browse(path, "--dump-dom"))
    assert "dcgan on <script>" in page.text
    assert not page.all("script")
    assert len(page.all("img")) == 5
    assert len([a for a in page.all("span") if "verdict" in a["class"]]) == 3


@pytest.mark.parametrize(
    ("width", "scheme", "background"),
    [(1000, 1, (255, 255, 255)), (390, 0, (22, 22, 22))],  # a desk, and a phone at night
)
def test_a_browser_draws_the_page(tmp_path, browse, width, scheme, background):
    path, shot = tmp_path / "report.html", tmp_path / "shot.png"
    # What is as wide as the window allows shows whether the page would scroll sideways.
    report.write(path, _full("a_name_that_has_no_place_to_break_" * 3))
    browse(
        path,
        f"--screenshot={shot}",
        f"--window-size={width},2000",
        f"--blink-settings=preferredColorScheme={scheme}",
    )
    pixels = np.asarray(Image.open(shot).convert("RGB"))
    assert pixels.shape == (2000, width, 3)
    assert (pixels[:, [0, -1]] == background).all()  # margins, on both sides
    pink = (pixels == PINK).all(-1)
    wide, high = pink.any(0).sum(), pink.any(1).sum()
    assert wide == high == min(640, width - 32)  # the samples were decoded, and keep their shape
