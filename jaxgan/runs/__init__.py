"""A run: how it is described, made, and opened again. Scripts and Python go through here."""
