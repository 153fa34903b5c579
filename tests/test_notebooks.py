"""The notebooks run from top to bottom, and are committed with what they gave."""

import pathlib
import sys

import nbformat
import pytest

FOLDER = pathlib.Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_with_outputs(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    text = path.read_text()
    assert "/tmp/" not in text and "/home/" not in text and "/root/" not in text


@pytest.mark.slow
@pytest.mark.pages
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv("PATH", str(pathlib.Path(sys.executable).parent), prepend=":")
    from execute import execute

    fresh = execute(path)
    assert all(cell.execution_count for cell in fresh.cells if cell.cell_type == "code")
