"""From weights to pictures."""
