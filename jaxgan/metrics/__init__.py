"""How good a generator is: distances, and the networks whose features they compare."""
