"""StackedMNIST: three digits in the three colours of a picture, 1000 modes to be found.

Metz et al., "Unrolled Generative Adversarial Networks", 2017, arXiv:1611.02163, section 3.3.1.
"""

import numpy as np

from jaxgan.data.cache import digest
from jaxgan.data.idx import load_mnist
from jaxgan.data.spec import Dataset, Request

_COUNT = {"train": 128_000, "holdout": 26_000}


def load_stacked_mnist(request: Request) -> Dataset:
    """StackedMNIST, `num_examples` pictures `[28, 28, 3]` of MNIST's digits, without labels.

    128,000 by default, as in PacGAN (arXiv:1712.04086), 26,000 held out. Which digits make which
    picture depends on the seed and on the picture's number alone.
    """
    digits = load_mnist(request._replace(name="mnist"))
    count = request.num_examples or _COUNT[request.split]
    chosen = np.random.default_rng(request.seed).integers(len(digits), size=(count, 3))
    images = np.stack([digits.images[column, ..., 0] for column in chosen.T], -1)
    spec = digits.spec._replace(name=request.name, channels=3, label_kind=None, label_names=())
    return Dataset(spec, images, None, digest(digits.fingerprint, request.seed, count))
