"""Run the notebooks in place, so that what is committed is what the code gives.

python notebooks/execute.py [NAME.ipynb ...]
"""

import pathlib
import sys

import nbformat
from nbclient import NotebookClient

FOLDER = pathlib.Path(__file__).parent


def execute(path: pathlib.Path) -> nbformat.NotebookNode:
    """The notebook with fresh outputs; raises on the first cell that fails."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times differ from run to run
    return notebook


def main() -> None:
    """Execute the named notebooks, or all of them."""
    for path in map(pathlib.Path, sys.argv[1:] or sorted(FOLDER.glob("*.ipynb"))):
        nbformat.write(execute(path), path)
        print(f"ran {path}")


if __name__ == "__main__":
    main()
