"""Pages of the reference, one a wing, from the public names of the package: python docs/api_pages.py.

Nothing is imported: public names and their homes are read from the source. ``mkdocs build`` runs this first, as a hook, which also
lists reference and notebooks in the navigation; ``tests/docs`` checks that what is committed is what it writes.
"""

from __future__ import annotations

import ast
import json
import pathlib
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "api"
PACKAGE = "camel_jax"
# wing -> what it is for; the order of the pages
WINGS = {
    "recipes": "What one chooses before training, what it costs, and what it gives.",
    "tables": "Run tables in and out.",
    "laws": "From a recipe to validation losses: pure functions. [The laws](../laws.md) in formulas.",
    "fitting": "From a table to a fit, with intervals.",
    "prediction": "What a fitted law says at a recipe, and how wrong it is expected to be.",
    "downstream": "From losses to benchmark accuracies. [How to](../guide/downstream.md).",
    "bayes": "A posterior over a law. [How to](../guide/posterior.md), and [the model](../posterior_model.md).",
    "mixture": "Which mixture: limits, objectives and search. [How to](../guide/mixture.md).",
    "budget": "Size, tokens and mixture for a budget. [How to](../guide/budget.md).",
    "design": "Which runs to buy next. [How to](../guide/design.md).",
    "evaluation": "Laws and baselines at a scale that was held out. [Results](../accuracy.md).",
    "proxy": "Real runs from tiny models. [How to](../guide/proxies.md).",
    "reports": "What is told to people: a recommendation, its evidence, its panels.",
    "study": "A study that is kept: ask for runs, tell their results, take its recommendation. [How to](../guide/study.md).",
    "interop": "From trackers and evaluators, to trainers.",
}


def source(module: str) -> ast.Module | None:
    """The parsed stub or source of a module, or None."""
    base = ROOT.joinpath(*module.split("."))
    for path in (base / "__init__.pyi", base / "__init__.py", base.with_suffix(".py")):
        if path.is_file():
            return ast.parse(path.read_text())
    return None


def imports(module: str) -> dict[str, tuple[str, str]]:
    """Names that a package imports: name -> (module, name there)."""
    tree, found = source(module), {}
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.ImportFrom):
            above = module.split(".")[: len(module.split(".")) + 1 - node.level] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            if origin.split(".")[0] == PACKAGE:
                found |= {alias.asname or alias.name: (origin, alias.name) for alias in node.names}
    return found


def listed(module: str) -> list[str]:
    """``__all__`` of a module where it is written out, else the public names that it imports."""
    for name in ("__init__.py", "__init__.pyi"):
        path = ROOT.joinpath(*module.split("."), name)
        for node in ast.parse(path.read_text()).body if path.is_file() else ():
            named = isinstance(node, ast.Assign) and any(getattr(t, "id", "") == "__all__" for t in node.targets)
            if named and isinstance(node.value, ast.List | ast.Tuple):
                return [ast.literal_eval(item) for item in node.value.elts]
    return [name for name in imports(module) if not name.startswith("_")]


def home(module: str, name: str) -> str:
    """The full path of what a package calls by a name, through packages that pass it on."""
    origin, inner = imports(module)[name]
    passed_on = ROOT.joinpath(*origin.split(".")).is_dir() and inner in imports(origin)
    if passed_on and imports(origin)[inner] != (origin, inner):
        return home(origin, inner)
    return f"{origin}.{inner}"


def public() -> dict[str, dict[str, str]]:
    """Wing -> public name, as written after ``cj.``, -> full path; a module among the names stands for its own names."""
    pages: dict[str, dict[str, str]] = {wing: {} for wing in WINGS}
    for name in listed(PACKAGE):
        if name.startswith("_"):
            continue
        path = home(PACKAGE, name)
        if source(path) is not None and ROOT.joinpath(*path.split(".")).is_dir():
            inner = {f"{name}.{n}": home(path, n) for n in listed(path) if not n.isupper()}
            pages[path.split(".")[1]] |= {n: p for n, p in inner.items() if p not in pages[path.split(".")[1]].values()}
            continue
        wing = path.split(".")[1]
        if wing not in WINGS:
            raise ValueError(f"docs/api_pages.py: no wing is known for {name}, which is at {path}")
        pages[wing] = {n: p for n, p in pages[wing].items() if p != path} | {name: path}
    return {wing: names for wing, names in pages.items() if names}


def returned(path: str) -> list[str]:
    """Full paths of the classes of the package that a function says it returns."""
    module, name = path.rsplit(".", 1)
    tree = source(module)
    body = tree.body if tree else []
    own = {node.name for node in body if isinstance(node, ast.ClassDef)}
    found = []
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name == name and node.returns is not None:
            for inner in ast.walk(node.returns):
                if isinstance(inner, ast.Name) and inner.id in own:
                    found.append(f"{module}.{inner.id}")
                elif isinstance(inner, ast.Name) and inner.id in imports(module) and inner.id[0].isupper():
                    found.append(home(module, inner.id))
    return [other for other in found if not other.endswith(".Array")]


def pages() -> dict[str, str]:
    """File name -> text of every page of the reference."""
    found = public()
    shown = {path for names in found.values() for path in names.values()}
    texts = {}
    index = ["# Reference", "", "Public names, as they are called after `import camel_jax as cj`.", ""]
    index += ["| wing | names |", "|---|---|"]
    for wing, names in found.items():
        links = ", ".join(f"[`{n}`]({wing}.md#{p})" for n, p in sorted(names.items(), key=lambda item: item[0].lower()))
        index.append(f"| [{wing}]({wing}.md) | {links} |")
        lines = [f"# {wing.capitalize()}", "", WINGS[wing], ""]
        for name, path in sorted(names.items(), key=lambda item: item[0].lower()):
            lines += [f"::: {path}", "    options:", f"      heading: cj.{name}", f"      toc_label: {name}", ""]
        others = sorted({other for path in names.values() for other in returned(path)} - shown)
        for other in others:  # what functions of this page return: classes that nobody has to import
            lines += [f"::: {other}", ""]
        shown |= set(others)
        texts[f"{wing}.md"] = "\n".join(lines)
    texts["index.md"] = "\n".join([*index, ""])
    return texts


def write() -> None:
    """Write the pages that have changed, and take away those of wings that are gone."""
    FOLDER.mkdir(exist_ok=True)
    texts = pages()
    for name, text in texts.items():
        path = FOLDER / name
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)
    for path in FOLDER.glob("*.md"):
        if path.name not in texts:
            path.unlink()


def title(notebook: pathlib.Path) -> str:
    """The first heading of a notebook, or its name."""
    for cell in json.loads(notebook.read_text())["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown" and text.startswith("# "):
            return text.split("\n")[0][2:].strip()
    return notebook.stem


def on_config(config: Any) -> Any:
    """Called by mkdocs: write the pages, and list them and the notebooks in the navigation."""
    write()
    notebooks = [{title(path): f"notebooks/{path.name}"} for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    names = [wing for wing in WINGS if (FOLDER / f"{wing}.md").is_file()]
    listing = [{"Overview": "api/index.md"}, *({name.capitalize(): f"api/{name}.md"} for name in names)]
    config["nav"] = [*config["nav"], {"Notebooks": notebooks}, {"Reference": listing}]
    return config


if __name__ == "__main__":
    write()
