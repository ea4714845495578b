"""The zoo. A model is a module with a frozen `Config` and `make(data, config, plan) -> Gan`, or
stages of one that grows."""

from jaxgan.models import (
    acgan,
    cgan,
    dcgan,
    gan,
    improved,
    improved_mlp,
    progan,
    r3gan,
    sagan,
    stargan,
    stylegan,
    stylegan2,
    wgan,
    wgan_gp,
)

MODELS = {
    "gan": gan,
    "dcgan": dcgan,
    "wgan": wgan,
    "wgan_gp": wgan_gp,
    "cgan": cgan,
    "acgan": acgan,
    "improved": improved,
    "improved_mlp": improved_mlp,
    "sagan": sagan,
    "progan": progan,
    "stylegan": stylegan,
    "stylegan2": stylegan2,
    "r3gan": r3gan,
    "stargan": stargan,
}
"""Add a GAN: one file beside these, one line here."""
