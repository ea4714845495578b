"""Generative adversarial networks in JAX."""
