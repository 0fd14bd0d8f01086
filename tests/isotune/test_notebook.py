"""The example notebook runs from top to bottom, and is kept without outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "examples").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
# The kernel's own libraries warn about event loops and file formats to come.
@pytest.mark.filterwarnings("ignore")
def test_the_notebook_runs_and_shows_its_results(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    shown = [out.data for cell in code for out in cell.outputs if "data" in out]
    assert sum("text/html" in data for data in shown) >= 4
    assert any("saves" in data.get("text/html", "") for data in shown)
    assert (tmp_path / "plan.yaml").exists()
