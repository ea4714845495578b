"""What may be done to the pictures that a discriminator sees: wrappers `Gan -> Gan`."""

from jaxgan.augment import ada, diffaug
from jaxgan.core import Gan


def none(gan: Gan) -> Gan:
    """Returns the Gan as it is."""
    return gan


AUGMENTATIONS = {"none": none, "diffaug": diffaug.wrap, "ada": ada.wrap}
"""The third dict in which a string selects code, beside MODELS and DATASETS: an augmentation is
neither of the two, and each goes with every model and every data set."""
