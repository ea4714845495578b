"""Settings: fields of a Config as text, and the `config.json` that a resumed run must match."""

import dataclasses

import pytest

from jaxgan import errors
from jaxgan.cli.overrides import override
from jaxgan.errors import UsageError, unknown
from jaxgan.models import MODELS
from jaxgan.training import workdir as workdirs


@dataclasses.dataclass(frozen=True)
class Config:
    width: int = 64
    learning_rate: float = 2e-4
    linear_stem: bool = False
    activation: str = "relu"
    widths: tuple[int, ...] = (300, 100)
    betas: tuple[float, ...] = (0.5, 0.999)


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("width=8", Config(width=8)),
        ("learning_rate=1e-3", Config(learning_rate=1e-3)),
        ("learning_rate=1", Config(learning_rate=1.0)),
        ("linear_stem=true", Config(linear_stem=True)),
        ("linear_stem=No", Config()),
        ("activation=a=b", Config(activation="a=b")),
        ("widths=64,32", Config(widths=(64, 32))),
        ("widths=64", Config(widths=(64,))),
        ("widths=", Config(widths=())),
        ("betas=0,.9", Config(betas=(0.0, 0.9))),
    ],
)
def test_text_becomes_the_fields_type(assignment, expected):
    changed = override(Config(), [assignment])
    assert changed == expected
    for field in dataclasses.fields(Config):
        value = getattr(changed, field.name)
        assert type(value) is type(field.default)


def test_the_last_assignment_counts_and_the_rest_stays():
    start = Config(activation="tanh")
    changed = override(start, ["width=8", "width=16"])
    assert changed == Config(width=16, activation="tanh") and start.width == 64
    assert override(start, []) == start


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("width", "'width' must look like field=value"),
        (
            "widht=8",
            "unknown field of test_config 'widht'.*mean 'widths?'.*valid: activation, betas",
        ),
        ("width=8.5", "'width=8.5': width must be an integer of at least 1, for example width=64"),
        ("width=", "width must be an integer"),
        ("width=0", "width must be an integer of at least 1"),
        (
            "learning_rate=fast",
            "learning_rate must be a number of at least 0, for example learning_rate=0.0002",
        ),
        ("learning_rate=-1", "learning_rate must be a number of at least 0"),
        ("learning_rate=nan", "learning_rate must be a number of at least 0"),
        ("linear_stem=maybe", "linear_stem must be true or false, for example linear_stem=false"),
        ("widths=64,x", "widths must be a list, each an integer of at least 1, for example widths"),
    ],
)
def test_what_does_not_fit_is_one_clear_sentence(assignment, message):
    with pytest.raises(UsageError, match=message) as error:
        override(Config(), [assignment])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", MODELS)
def test_every_models_config_can_be_written_as_text(name):
    config = MODELS[name].Config()
    text = [
        f"{field}={','.join(map(str, value)) if isinstance(value, tuple) else value}"
        for field, value in dataclasses.asdict(config).items()
    ]
    assert override(config, text) == config
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.learning_rate = 1.0


def test_unknown_names_get_the_nearest_valid_one_if_one_is_near():
    models = ["wgan_gp", "dcgan", "gan"]
    assert str(unknown("model", "wgangp", models)) == (
        "unknown model 'wgangp' (did you mean 'wgan_gp'?); valid: dcgan, gan, wgan_gp"
    )
    assert "did you mean" not in str(unknown("model", "xyz", models))


# The workdir

SETTINGS = {
    "model": "dcgan",
    "config": {"width": 8, "widths": (3, 4)},
    "data": {"fingerprint": "abc", "flip": False},
    "batch_size": 64,
    "seed": 0,
    "steps": 100,
    "keep": 3,
    "log_every": 10,
    "versions": {"jax": "1"},
}


@pytest.fixture
def run(tmp_path):
    workdir = tmp_path / "run"
    workdir.mkdir()
    workdirs.write(workdir, SETTINGS)
    return workdir


def test_settings_come_back(run):
    expected = {**SETTINGS, "config": {"width": 8, "widths": [3, 4]}}
    assert workdirs.read(run) == expected
    assert [path.name for path in run.iterdir()] == ["config.json"]
    workdirs.check(run, SETTINGS)
    workdirs.check(run, expected)


def test_some_settings_may_change(run):
    free = {"steps": 7, "keep": 1, "keep_every": 5, "log_every": 1, "versions": {"jax": "2"}}
    workdirs.check(run, {**SETTINGS, **free})


def test_a_run_from_before_a_setting_goes_on_as_it_was(run):
    workdirs.check(run, {**SETTINGS, "augment": "none"})
    with pytest.raises(UsageError, match="augment was none and is now ada"):
        workdirs.check(run, {**SETTINGS, "augment": "ada"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "seed was 0 and is now 1"),
        ({"batch_size": 32}, "batch_size was 64 and is now 32"),
        ({"config": {"width": 16, "widths": [3, 4]}}, r"config\.width was 8 and is now 16"),
        ({"config": {"width": 8, "widths": [3]}}, r"config\.widths was \[3, 4\] and is now \[3\]"),
        ({"data": {"fingerprint": "xyz", "flip": True}}, "abc and is now xyz; .*flip was false"),
        ({"config": {"width": 8}}, r"config\.widths was \[3, 4\] and is now absent"),
        ({"new": 1}, "new was absent and is now 1"),
        ({"model": "wgan"}, "model was dcgan and is now wgan"),
    ],
)
def test_any_other_difference_is_an_error_with_both_values(run, changes, message):
    before = (run / "config.json").read_text()
    with pytest.raises(UsageError, match=message) as error:
        workdirs.check(run, {**SETTINGS, **changes})
    assert "another workdir" in str(error.value)
    assert (run / "config.json").read_text() == before


def test_a_run_from_before_a_field_of_its_config_goes_on_as_it_was(tmp_path):
    settings = {**SETTINGS, "model": "r3gan", "config": {"width": 8}}
    workdirs.write(tmp_path, settings)
    workdirs.check(tmp_path, {**settings, "config": {"width": 8, "full_sizes": 4}})
    with pytest.raises(UsageError, match="full_sizes was 4 and is now 5"):
        workdirs.check(tmp_path, {**settings, "config": {"width": 8, "full_sizes": 5}})


def test_of_another_model_the_name_says_enough(run):
    other = {**SETTINGS, "model": "gan", "config": {"depth": 2}}
    with pytest.raises(UsageError) as error:
        workdirs.check(run, other)
    assert "config." not in str(error.value)


def test_a_run_begins_in_no_folder_an_empty_one_or_what_a_kill_left(tmp_path):
    workdirs.check(tmp_path / "none", SETTINGS)
    workdirs.check(tmp_path, SETTINGS)
    for leftover in (".config.json.1a2b3c4d", "config.json.tmp"):
        (tmp_path / leftover).write_text('{"mod')
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / ".lock").touch()
    workdirs.check(tmp_path, SETTINGS)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").touch()
    for place in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(UsageError, match="is not a workdir"):
            workdirs.check(place, SETTINGS)
        with pytest.raises(UsageError, match="is not a workdir"):
            workdirs.read(place)


def test_damaged_settings_are_named(run):
    (run / "config.json").write_text('{"model": ')
    with pytest.raises(UsageError, match=r"config\.json is damaged"):
        workdirs.check(run, SETTINGS)


def test_who_calls_from_python_is_told_of_arguments():
    error = UsageError(
        "try --image_size=32, --skip_corrupt, --tags=a.csv:x, --set width=8 or another --workdir"
    )
    assert str(error) == (
        "try image_size=32, skip_corrupt=True, tags='a.csv:x', config={'width': 8} or another "
        "workdir"
    )
    with errors.in_flags():
        assert str(error) == error.args[0]
    assert "config={'learning_rate': ...}" in str(UsageError("(--set learning_rate=...)"))


@pytest.mark.parametrize(("name", "always"), [("cgan", "always"), ("gan", "never")])
def test_what_is_no_field_because_it_is_so(name, always):
    with pytest.raises(UsageError, match=f"{name} is {always} conditional; leave it out"):
        override(MODELS[name].Config(), ["conditional=false"])
    with pytest.raises(UsageError, match=f"unknown field of {name} 'width' .did you mean '.*_wid"):
        override(MODELS[name].Config(), ["width=8"])
