"""The networks whose features are compared."""
