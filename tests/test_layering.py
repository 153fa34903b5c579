"""Which module may import which: read off the syntax trees, lazy imports included."""

import ast
import json
import pathlib
import subprocess
import sys

import pytest

import camel_jax

ROOT = pathlib.Path(camel_jax.__file__).parent

# A wing (a folder, or one of the three single files) imports only from lines above its own; files of one wing may import each other.
LINES = [
    {"types", "runtime", "storage"},
    {"numerics", "recipes"},
    {"figures"},
    {"views"},
    {"tables", "solvers", "mixture"},
    {"laws", "downstream", "budget", "proxy"},
    {"prediction"},
    {"fitting"},
    {"bayes", "design", "evaluation", "reports", "interop"},
    {"study"},
    {"cli"},
]
# Narrower than their line: what these wings may import of the package.
MAY_IMPORT = {
    "budget": {"types", "runtime", "storage", "numerics", "recipes", "views", "mixture"},
    "figures": {"types", "recipes"},
    "interop": {"types", "storage", "recipes", "tables"},
    "views": {"types", "runtime", "recipes", "figures"},
    "proxy": {"types", "runtime", "storage", "numerics", "recipes", "tables"},
}
ONLY_IN = {
    "pandas": {"tables", "interop", "views"},
    "pyarrow": {"tables"},
    "numpyro": {"bayes"},
    "arviz": {"bayes"},
    "arviz_base": {"bayes"},
    "arviz_stats": {"bayes"},
    "xarray": {"views"},
    "flax": {"proxy"},
    "matplotlib": {"figures"},
    "typer": {"cli"},
    "rich": {"cli"},
    "sklearn": {"evaluation", "laws"},
    "sqlalchemy": {"study"},
}
MOST_FILES, MOST_FOLDERS, MOST_LINES = 6, 20, 400
HEAVY = [
    "pandas",
    "xarray",
    "pyarrow",
    "numpyro",
    "arviz",
    "flax",
    "matplotlib",
    "sklearn",
    "sqlalchemy",
    "scipy.optimize",
    "typer",
    "rich",
]


def _unit(path: pathlib.Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def _imports(path: pathlib.Path):
    """(line number, dotted name) of every import of a file, relative ones made absolute."""
    package = ["camel_jax", *path.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"


FILES = [path for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py" and "data" not in path.parts]


LEVEL = {name: i for i, line in enumerate(LINES) for name in line}


def test_every_wing_has_a_line():
    assert {_unit(path) for path in FILES} <= set(LEVEL)


def test_the_house_stays_small():
    here = [path for path in ROOT.iterdir() if not path.name.startswith(("__pycache__", "."))]
    folders = [path for path in here if path.is_dir()]
    assert len(here) - len(folders) <= MOST_FILES
    assert len([path for path in folders if any(path.glob("*.py"))]) <= MOST_FOLDERS  # data/ holds no code
    assert all(len(path.relative_to(ROOT).parts) <= 2 for path in FILES)
    files = [*FILES, *pathlib.Path(__file__).parent.rglob("*.py")]
    long = {str(path): n for path in files if (n := len(path.read_text().splitlines())) > MOST_LINES}
    assert not long


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_up(path):
    unit = _unit(path)
    wrong = []
    for line, name in _imports(path):
        parts = name.split(".")
        if parts[0] == "camel_jax":
            other = parts[1] if len(parts) > 1 else ""
            if other in LEVEL and other != unit:
                allowed = LEVEL[other] < LEVEL[unit] and other in MAY_IMPORT.get(unit, LEVEL)
            else:
                allowed = other == unit or unit == "cli"  # the package itself only from the command line
            if not allowed:
                wrong.append(f"{path.name}:{line} imports {name}")
        elif parts[0] in ONLY_IN and unit not in ONLY_IN[parts[0]]:
            wrong.append(f"{path.name}:{line} imports {name}")
    assert not wrong


def _loaded_after(code: str) -> dict:
    script = (
        f"import sys, json, jax\nbefore = dict(jax.config.values)\n{code}\n"
        f"after = dict(jax.config.values)\nloaded = [m for m in {HEAVY!r} if m in sys.modules]\n"
        "changed = [k for k in after if before.get(k) != after[k]]\nprint(json.dumps([loaded, changed]))"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    loaded, changed = json.loads(out.stdout)
    return {"loaded": loaded, "changed": changed, "stderr": out.stderr}


def test_import_is_light_and_changes_nothing():
    assert _loaded_after("import camel_jax") == {"loaded": [], "changed": [], "stderr": ""}


def test_help_does_not_wait_for_jax():
    script = (
        "import sys\nfrom camel_jax.cli import main\nsys.argv = ['camel-jax', '--help']\n"
        "try: main()\nexcept SystemExit as e: code = e.code\n"
        "print('CODE', code, [m for m in ('jax', 'pandas', 'matplotlib', 'scipy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert out.stdout.strip().splitlines()[-1] == "CODE 0 []"


def test_public_names_are_there_and_modules_do_not_hide_them():
    script = (
        "import types\nfrom camel_jax.fitting.fit import fit\nimport camel_jax as cj\nimport camel_jax.fitting as wing\n"
        "assert wing.fit is cj.fit is fit\n"
        "modules = [n for n in cj.__all__ if isinstance(getattr(cj, n), types.ModuleType)]\nprint(modules)"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert out.stdout.strip() == "['laws']"
