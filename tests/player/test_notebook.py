"""The notebook, run cell by cell as a person does, on the handwritten digits."""

import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from kennel_cli.demo import write_digits

NOTEBOOK = Path(__file__).parents[2] / "scripts" / "train_and_deploy.ipynb"


@pytest.mark.timeout(1500)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:jupyter_client.*", "ignore::DeprecationWarning:zmq.*")
def test_the_notebook_runs_to_its_end_and_shows_what_it_should(home, tmp_path, monkeypatch):
    monkeypatch.setenv("JOBS", "2")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for name in ("DATA", "WEIGHTS", "BACKBONE"):
        monkeypatch.delenv(name, raising=False)
    for file in sorted(write_digits(home / "datasets" / "digits").rglob("*.png")):
        if int(file.stem) // 5 % 3:  # a third of each split is enough to see it run
            file.unlink()
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 4  # the curves, and three digits with their answers
    said = "".join(output.get("text", "") for output in outputs)
    assert "overfit " in said
    right = int(said.partition(" of 50 are right")[0].split()[-1])
    assert right >= 20  # by chance five would be
    assert "is deleted" in said
    assert not list((home / "endpoints").iterdir())


def test_the_notebook_is_kept_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
