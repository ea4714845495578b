"""A run as an object: what it was trained with, what it draws, and how it was measured."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxgan import addresses, data, files
from jaxgan.core import Gan, GanState, Variables
from jaxgan.data import Dataset, DataSpec
from jaxgan.errors import UsageError, unknown
from jaxgan.evaluation import history as evaluations
from jaxgan.processes import from_process_0
from jaxgan.runs import readers
from jaxgan.runs import settings as described
from jaxgan.runs import train as trained
from jaxgan.runs.settings import Model
from jaxgan.sampling import style
from jaxgan.sampling.draw import Translations, draw, draw_latents, generator_variables
from jaxgan.stages import Stages, at_step, gan_at, template
from jaxgan.training import workdir as workdirs
from jaxgan.training.checkpoint import Checkpointer


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A checkpoint of a run, opened by `open_run` or returned by `train`.

    Attributes:
      workdir: where it is kept; of an address the local mirror.
      settings: what its `config.json` holds.
      step: finished steps of the checkpoint.
      gan: the method, which draws as after these steps.
      variables: the generator's, averaged unless it was opened with `raw=True`.
      state: all that training changes.
      raw: whether the variables are the last ones.
    """

    workdir: pathlib.Path
    settings: Mapping[str, Any]
    step: int
    gan: Gan
    variables: Variables
    state: GanState
    raw: bool
    _stages: Stages

    @property
    def spec(self) -> DataSpec:
        """Size, channels and label names of the pictures."""
        return described.spec_of(self.settings)

    def labels(self, conditions: str | None = None) -> np.ndarray:
        """Returns label vectors [M, K] float32.

        Args:
          conditions: as `sample --labels` takes them, "blonde;green" for two of them; None for
            those of the run's sample grids.

        Raises:
          UsageError: if the method takes no labels, or a name is unknown.
        """
        if not self.gan.conditional:
            raise UsageError("this model was trained without labels and takes none")
        if conditions is not None:
            return data.parse_labels(conditions, self.spec)
        names, shown = self.spec.label_names, self.settings["data"]["conditions"]
        return np.array([[name in row for name in names] for row in shown], np.float32)

    def sample(
        self,
        num: int = 64,
        *,
        seed: int = 0,
        labels: str | np.ndarray | None = None,
        latent: np.ndarray | None = None,
        w: np.ndarray | None = None,
        truncation: float | None = None,
        batch_size: int = 64,
    ) -> np.ndarray:
        """Returns uint8 images [num, H, W, C]; image i depends on the seed and on i only.

        Args:
          num: how many.
          seed: chooses the latents and any noise.
          labels: conditions as `labels` takes them, or vectors [M, K]; taken in turn. None for
            those of the run's sample grids.
          latent: [num, Z], in place of drawn ones.
          w: [num, layers, F], in place of mapped ones, of `w`.
          truncation: draws w towards its average: 1 leaves it, 0 gives the average picture.
          batch_size: images computed at a time.

        Raises:
          UsageError: if the method has no such thing.
        """
        gan = self.gan
        if w is not None:
            gan = style.from_w(gan)
        elif truncation is not None:
            gan = style.truncated(gan, truncation)
        return draw(
            gan,
            self.variables,
            num,
            seed=seed,
            label=None if w is not None else self._asked(labels, num),
            latent=latent,
            w=w,
            batch_size=batch_size,
        )

    def translate(
        self,
        images: np.ndarray,
        labels: str | np.ndarray | None = None,
        *,
        batch_size: int = 64,
    ) -> np.ndarray:
        """Returns uint8 [N, M, H, W, C]: what each of M conditions makes of each of N pictures.

        Args:
          images: uint8 [N, H, W, C], of the run's size.
          labels: conditions as `labels` takes them, or vectors [M, K]; None for those of the run's
            sample grids.
          batch_size: pictures computed at a time.

        Raises:
          UsageError: if the method makes pictures of noise.
        """
        vectors = labels if isinstance(labels, np.ndarray) else self.labels(labels)
        asked = Translations.of(images, vectors, self.spec.label_names)
        drawn = functools.partial(draw, self.gan, self.variables, batch_size=batch_size)
        return asked.drawn(drawn)[:, 1:]

    def latents(self, num: int = 64, *, seed: int = 0) -> np.ndarray:
        """Returns the latents [num, Z] float32 that `sample` draws for the same seed."""
        return draw_latents(self.gan, num, seed=seed)

    def w(
        self,
        num: int = 64,
        *,
        seed: int = 0,
        labels: str | np.ndarray | None = None,
        truncation: float = 1.0,
    ) -> np.ndarray:
        """Returns intermediate latents [num, layers, F] float32; arguments as of `sample`.

        Raises:
          UsageError: if the method has none.
        """
        style.style_of(self.gan, "w")
        latent, label = self.latents(num, seed=seed), self._asked(labels, num)
        return style.map_latents(self.gan, self.variables, latent, label, psi=truncation)

    def evaluate(
        self,
        num_images: int = 10_000,
        *,
        metrics: Sequence[str] | None = None,
        features: str | None = None,
        pictures: Dataset | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> dict[str, float]:
        """Measures the generator against the training's pictures, and adds to the run's history.

        Args:
          num_images: how many pictures are drawn.
          metrics: of `jaxgan evaluate --metrics`; None for the usual ones that can be measured.
          features: what reads the pictures: "inception", a file, "random"; None for the data set's
            classifier if there is one.
          pictures: those of the training; None loads them again.
          seed: chooses the latents.
          progress: whether to show how far it is, and to say what cannot be measured.

        Returns:
          Metric -> number.

        Raises:
          UsageError: if the pictures are others, or a metric cannot be measured.
          DataError: if the pictures are not there.
        """
        if pictures is None:
            pictures = described.pictures_of(self.settings)
        else:
            described.check_pictures(self.settings, pictures)
        evaluator = readers.evaluator(
            self._stages,
            pictures,
            num_images,
            metrics=metrics,
            features=features,
            seed=seed,
            cache_dir=data.default_cache_dir(),
            progress=progress,
            say=print if progress else trained._unsaid,
        )
        entry = evaluator(self.state, raw=self.raw).entry
        if entry.metrics:
            evaluations.append(self.workdir, entry)
            addresses.put_up(self.workdir / evaluations.FILE)
        return {name: measured.value for name, measured in entry.metrics.items()}

    def history(self) -> dict[str, np.ndarray]:
        """Returns what was logged: "step" [N] int64, and metrics [N] float64 (or NaN)."""
        lines = files.read_json_lines(self.workdir / "metrics.jsonl")
        names = dict.fromkeys(name for line in lines for name in line)
        columns = {name: [line.get(name) for line in lines] for name in names}
        return {
            name: np.array(values, np.int64 if name == "step" else np.float64)
            for name, values in columns.items()
        }

    def _asked(self, labels, num):
        if not self.gan.conditional and labels is None:
            return None
        vectors = labels if isinstance(labels, np.ndarray) else self.labels(labels)
        return np.resize(vectors, (num, vectors.shape[-1]))


def train(
    model: Model,
    pictures: Dataset,
    *,
    workdir: str | pathlib.Path,
    config: Mapping[str, Any] | Any = None,
    progress: bool = True,
    **options: Any,
) -> Run:
    """Trains a method on pictures, or goes on where the workdir's run stopped, and opens the run.

    The result depends on the arguments only, not on how often the run was interrupted. The scripts
    work on such a run as on one of theirs.

    Args:
      model: a name in `MODELS`; or a Gan of your own, or a function of the `Plan` that returns one.
      pictures: from `load_data`, or a `Dataset` of your own arrays.
      workdir: where the run is kept, a path or an address of fsspec.
      config: fields of the model's Config by name, or a Config.
      progress: whether to draw a progress bar.
      **options: see `Options`: `batch_size`, `steps`, `epochs`, `seed`, `flip`, `precision`, ...

    Raises:
      UsageError: if they do not go together, or the workdir holds something else.
      CheckpointError: if the workdir cannot be written, or another run is using it.
      NonFiniteError: if updates keep being undone for not being finite.
      Stopped: after SIGTERM, SIGINT or SIGHUP, when the state has been saved; a SystemExit.
    """
    if isinstance(model, str):
        config = _configured(described.named(model).Config, config)
    elif config is not None:
        raise UsageError("config is for a model of jaxgan's own; set up yours where it is made")
    workdir = workdirs.to_write(workdir)
    prepared = trained.prepare(
        model, pictures, trained.Options.of(options), workdir=workdir, config=config
    )
    trained.begin(prepared, progress=progress)
    return open_run(workdir, gan=None if isinstance(model, str) else model)


def _configured(kind, config):
    if isinstance(config, kind):
        return config
    names = [field.name for field in dataclasses.fields(kind)]
    for name in config or {}:
        if name not in names:
            raise unknown("field", name, names)
    return kind(
        **{
            name: tuple(value) if isinstance(value, list) else value
            for name, value in (config or {}).items()
        }
    )


def open_run(
    workdir: str | pathlib.Path,
    *,
    checkpoint: str | int = "last",
    raw: bool = False,
    gan: Model | None = None,
) -> Run:
    """Opens a run's checkpoint, wherever it was trained.

    Args:
      workdir: where it is kept, a path or an address of fsspec.
      checkpoint: a step, "last", or "best" by its evaluations.
      raw: takes the generator's last variables in place of their average.
      gan: the method, if the run trained one of your own.

    Raises:
      UsageError: if the folder is not a run's, or has no such checkpoint.
      CheckpointError: if the checkpoint is damaged.
    """
    workdir = workdirs.to_read(workdir)
    settings = from_process_0(lambda: workdirs.read(workdir))
    stages = described.stages_of(settings, gan)
    with Checkpointer(workdir / "checkpoints", read_only=True) as checkpointer:
        step = from_process_0(
            lambda: described.chosen_step(workdir, str(checkpoint), checkpointer.steps())
        )
        restored = checkpointer.restore(template(stages), step)
    if restored is None:
        raise UsageError(
            f"{addresses.shown(workdir)} has no checkpoint yet; let the training save one"
        )
    method = at_step(gan_at(stages, restored.step), restored.step)
    variables = generator_variables(restored.state, raw=raw)
    return Run(workdir, settings, restored.step, method, variables, restored.state, raw, stages)
