"""Runs docs/tour.ipynb in an empty folder and keeps what it shows: `python docs/run_tour.py`."""

from __future__ import annotations

import pathlib
import tempfile

import nbformat
from nbclient import NotebookClient

TOUR = pathlib.Path(__file__).parent / "tour.ipynb"


def run(notebook: nbformat.NotebookNode, folder: str | pathlib.Path) -> None:
    """Runs the cells in a folder; progress bars and times are not kept, and pictures once.

    Raises:
      CellExecutionError: if a cell fails.
    """
    NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(folder)}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [x for x in cell.outputs if x.get("name") != "stderr"]
            for shown in cell.outputs:
                shown.get("data", {}).pop("image/jpeg", None)  # beside the PNG


if __name__ == "__main__":
    tour = nbformat.read(TOUR, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        run(tour, folder)
    nbformat.write(tour, TOUR)
