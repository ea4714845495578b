"""`jaxgan/cli/status.py` as a script; --help says what it does."""

from jaxgan import cli

if __name__ == "__main__":
    cli.run("status")
