"""What a new user meets: help by topic with examples, the version, completion, a folder to play with, extras by name."""

import os
import re
import signal
import subprocess
import sys
from typing import Any

import pytest
import typer
from commands import call, own_flags, refused  # noqa: F401  (own_flags is used by its name)

import camel_jax
from camel_jax.cli.commands import COMMANDS, app
from camel_jax.cli.examples import EXAMPLES
from camel_jax.cli.options import TOPICS

NAMES = [name for commands in COMMANDS.values() for name in commands]
GROUP: Any = typer.main.get_command(app)


def command_of(name):
    """The command of a name such as ``fit``, or ``study new``."""
    found = GROUP
    for part in name.split():
        found = found.commands[part]
    return found


def test_version():
    assert call("--version") == (0, f"camel-jax {camel_jax.__version__}\n", "")


@pytest.mark.parametrize("name", NAMES)
def test_help_groups_every_option_and_ends_in_an_example(name):
    code, out, err = call(*name.split(), "--help")
    assert (code, err) == (0, "")
    assert "Example" in out and all(line.startswith(f"camel-jax {name} ") for line in EXAMPLES[name])
    assert "\n".join(out.split()).count("camel-jax") >= 2  # the usage line and the example
    for option in command_of(name).params:
        if option.param_type_name == "option":
            assert getattr(option, "rich_help_panel", None) in TOPICS, option.name


@pytest.mark.parametrize(("name", "line"), [(name, line) for name, lines in EXAMPLES.items() for line in lines])
def test_examples_are_commands_there_are(name, line):
    arguments = line.removeprefix(f"camel-jax {name} ").split()
    context = command_of(name).make_context(name, arguments)
    assert context.info_name == name


def test_completion_does_not_wait_for_jax():
    code = "import sys\nfrom camel_jax.cli import main\ntry: main()\nfinally: print('jax' in sys.modules)"
    env = os.environ | {"_CAMEL_JAX_COMPLETE": "complete_bash", "COMP_WORDS": "camel-jax lea", "COMP_CWORD": "1"}
    out = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, env=env, timeout=120
    ).stdout
    assert out.split() == ["leaderboard", "False"]


def test_example_is_a_folder_to_play_with(tmp_path):
    folder = tmp_path / "play"
    code, out, err = call("example", folder)
    assert (code, err) == (0, "")
    assert sorted(path.name for path in folder.iterdir()) == ["limits.toml", "recipes.csv", "runs.csv", "tasks.csv"]
    told = re.findall(r"camel-jax (\w+) (.*)", out)
    assert [name for name, _ in told] == ["fit", "predict", "mix", "report"]
    for name, rest in told:
        GROUP.commands[name].make_context(name, rest.split())
    from camel_jax.cli.limits import gather
    from camel_jax.cli.options import ShareLimits
    from camel_jax.tables.read import read_recipes, read_runs
    from camel_jax.tables.runs import scales
    from camel_jax.tables.tasks import read_tasks

    runs = read_runs(folder / "runs.csv")
    recipes, names = read_recipes(folder / "recipes.csv", domains=runs.domains)
    assert len(names) == 6 and min(recipes.n_active) > scales(runs)[-1]
    assert set(read_tasks(folder / "tasks.csv")) == set(runs.tasks)
    assert gather(runs.domains, ShareLimits(folder / "limits.toml"))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert "not empty" in refused("example", folder)
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert "is a file" in refused("example", folder / "runs.csv")
    assert "no folder" in refused("example", tmp_path / "none" / "play")


@pytest.mark.parametrize(
    ("package", "module", "extra"),
    [("numpyro", "camel_jax.bayes", "bayes"), ("flax", "camel_jax.proxy.model", "proxy")],
)
def test_a_missing_package_is_one_line_with_its_extra(package, module, extra):
    code = f"""import importlib, sys
sys.modules[{package!r}] = None
from camel_jax import cli
from camel_jax.cli.commands import app
def needs():
    importlib.import_module({module!r})
app.command("needs")(needs)
cli.main(["needs"])"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stdout == ""
    assert re.fullmatch(rf"error: .* needs {package}: pip install 'camel-jax\[{extra}\]'\n", done.stderr)


@pytest.mark.parametrize(("sent", "at_sigint"), [("SIGINT", "default_int_handler"), ("SIGTERM", "SIG_IGN")])
def test_a_signal_while_the_commands_are_loaded_ends_in_one_line(sent, at_sigint):
    """SIGINT is ignored where a shell started the command with ``&``."""
    code = f"""import os, signal, sys, time
signal.signal(signal.SIGINT, signal.{at_sigint})
from camel_jax import cli
class Waits:
    def find_spec(self, name, *rest):
        if name == "typer":
            os.kill(os.getpid(), signal.{sent})
            time.sleep(100)
sys.meta_path.insert(0, Waits())
cli.main()"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (128 + getattr(signal, sent), "", "interrupted\n")


def test_parquet_names_its_extra(tmp_path, monkeypatch):
    from camel_jax.tables.write import write_columns

    path = tmp_path / "t.parquet"
    write_columns({"a": [1.0]}, path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "camel-jax[parquet]" in refused("fit", path, "--out", tmp_path / "f.npz")
    with pytest.raises(ImportError, match=r"camel-jax\[parquet\]"):
        write_columns({"a": [1.0]}, tmp_path / "u.parquet")
    assert not (tmp_path / "u.parquet").exists()
