"""How good a generator is: numbers, and what they say in words."""
