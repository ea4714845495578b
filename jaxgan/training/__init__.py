"""The loop, and what a run leaves in its workdir."""
