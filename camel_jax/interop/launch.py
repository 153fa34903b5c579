"""A launch folder: one configuration a run, from a template of the user's, beside the table of the recipes they are made of.

A placeholder is ``${name}``, in braces. ``$name``, ``$(command)`` and ``$$`` stay as they are, so that a template may be a shell
script; ``$${name}`` writes ``${name}``. The trackers' runs are called as the table calls them, by which ``import`` joins the two.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from camel_jax.interop.rounding import round_shares
from camel_jax.interop.targets import DECIMAL
from camel_jax.interop.yaml_text import decimal
from camel_jax.recipes.sizes import format_size
from camel_jax.storage import check_source
from camel_jax.tables.write import write_columns

TABLE = "recipes.csv"
_PLACE = re.compile(r"(\$?)\$\{([^}\n]*)(\}?)")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


def in_parts(columns: Mapping[str, Any]) -> dict[str, Any]:
    """A run table whose shares have six decimal digits and sum to one, so that a table and a configuration say the same.

    >>> in_parts({"run": ["a"], "mix/web": [2 / 3], "mix/code": [1 / 3]})
    {'run': ['a'], 'mix/web': [0.666667], 'mix/code': [0.333333]}
    """
    names = [name for name in columns if name.startswith("mix/")]
    rows = zip(*(columns[name] for name in names), strict=True)
    counts = [round_shares([float(share) for share in row], DECIMAL, names=names) for row in rows]
    return dict(columns) | {name: [row[k] / DECIMAL for row in counts] for k, name in enumerate(names)}


def placeholders(columns: Mapping[str, Sequence[Any]], batch_tokens: float | None = None) -> list[dict[str, str]]:
    """What the placeholders of each run stand for.

    Args:
      columns: a run table without losses: ``run``, ``size``, ``tokens``, ``mix/<domain>``, and ``size_total`` if it has one.
      batch_tokens: tokens of a training step, for ``steps``.

    Returns:
      For each run: ``run``, ``index`` from 1, ``size`` and ``size_total`` in parameters, ``size_text`` as in "30M", ``tokens``, with
      ``batch_tokens`` also ``steps``, ``mix/<domain>`` of every domain, and ``mixture``: all shares as one line of JSON, which is
      YAML too.

    >>> table = {"run": ["a"], "size": [3e7], "tokens": [6e8], "mix/web": [0.75], "mix/code": [0.25]}
    >>> one = placeholders(table, 4e6)[0]
    >>> one["size_text"], one["tokens"], one["steps"], one["mix/web"], one["mixture"]
    ('30M', '600000000', '150', '0.75', '{"web": 0.75, "code": 0.25}')
    """
    domains = [name.removeprefix("mix/") for name in columns if name.startswith("mix/")]
    out = []
    for i, run in enumerate(columns["run"]):
        size, tokens = float(columns["size"][i]), float(columns["tokens"][i])
        total = float(columns["size_total"][i]) if "size_total" in columns else size
        shares = {domain: decimal(columns[f"mix/{domain}"][i]) for domain in domains}
        mixture = ", ".join(f"{json.dumps(name, ensure_ascii=False)}: {share}" for name, share in shares.items())
        values = {
            "run": str(run),
            "index": str(i + 1),
            "size": str(round(size)),
            "size_total": str(round(total)),
            "size_text": format_size(total, size),
            "tokens": str(round(tokens)),
            "mixture": f"{{{mixture}}}",
        }
        if batch_tokens is not None:
            values["steps"] = str(max(round(tokens / batch_tokens), 1))
        out.append(values | {f"mix/{domain}": share for domain, share in shares.items()})
    return out


def read_template(path: pathlib.Path, values: Mapping[str, str]) -> str:
    """The text of a template whose placeholders are all known.

    Args:
      path: the template.
      values: the placeholders of a run.

    Raises:
      ValueError: no such file, one that is no text, a placeholder that there is not, or a template without the run's name or without a
        domain's share, whose runs could not be told apart or would not be what their table says.
    """
    try:
        check_source(path)
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: a template is text in UTF-8") from None
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from None
    used = set()
    for match in _PLACE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        if match[1]:
            continue
        if not match[3]:
            raise ValueError(f"{path} line {line}: '${{' has no '}}'; write '$${{' for '${{' itself")
        if match[2] not in values:
            hint = ": give --batch-tokens" if match[2] == "steps" else f"; there are {', '.join(values)}"
            raise ValueError(
                f"{path} line {line}: no value for ${{{match[2]}}}{hint}; $${{{match[2]}}} writes it as it stands"
            )
        used.add(match[2])
    if "run" not in used:
        raise ValueError(f"{path}: does not use ${{run}}: name each run by it, so that an import finds the run again")
    shares = [name for name in values if name.startswith("mix/")]
    if "mixture" not in used and (lacking := [name for name in shares if name not in used]):
        raise ValueError(f"{path}: does not use ${{{lacking[0]}}}: use ${{mixture}}, or the share of every domain")
    return text


def check_template(path: pathlib.Path, domains: Sequence[str], batch_tokens: float | None = None) -> None:
    """Refuse a template before the runs are designed; arguments and errors are those of ``read_template`` and ``placeholders``."""
    recipe = {"run": ["run"], "size": [1.0], "tokens": [1.0]} | {f"mix/{name}": [0.0] for name in domains}
    read_template(path, placeholders(recipe, batch_tokens)[0])


def fill(text: str, values: Mapping[str, str]) -> str:
    """A template with its placeholders replaced.

    >>> fill("name=${run} home=$HOME job=$${JOB} pid=$$", {"run": "a"})
    'name=a home=$HOME job=${JOB} pid=$$'
    """
    return _PLACE.sub(lambda match: match[0][1:] if match[1] else values[match[2]], text)


def write_launch(
    folder: pathlib.Path,
    columns: Mapping[str, Sequence[Any]],
    template: pathlib.Path,
    batch_tokens: float | None = None,
) -> list[str]:
    """Write a launch folder, whole or not at all.

    Args:
      folder: a new folder, or an empty one.
      columns: the recipes, as for ``placeholders``.
      template: the template's file; configurations take its suffix.
      batch_tokens: tokens of a training step.

    Returns:
      Names of the files, the table of recipes last.

    Raises:
      ValueError: the folder holds something, no run is designed, a run's name is no name of a file, or the template is refused.
    """
    check_folder(folder)
    runs = placeholders(columns, batch_tokens)
    if not runs:
        raise ValueError(f"{folder}: no run was designed, so that there is nothing to launch")
    text = read_template(template, runs[0])
    files = {}
    for values in runs:
        name = values["run"]
        if not _FILE.fullmatch(name):
            raise ValueError(f"run {name!r} is no name of a file: use letters, digits, '.', '_' and '-'")
        files[f"{name}{template.suffix}"] = fill(text, values)
    if len(files) < len(runs) or TABLE in files:
        raise ValueError(f"{folder}: two files of it would have one name")
    part = pathlib.Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for name, content in files.items():
            (part / name).write_bytes(content.encode("utf-8"))
        write_columns(dict(columns), part / TABLE)
        part.chmod(0o755)
        os.replace(part, folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return [*files, TABLE]


def check_folder(folder: pathlib.Path) -> None:
    """Fail before the work if a launch folder cannot be written.

    Raises:
      ValueError: it holds something, is a file, or the folder it shall lie in is not there or cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: is a file, not a folder to write")
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder}: is not empty: name a new folder, so that no run of another design is launched")
    if not folder.parent.is_dir():
        raise ValueError(f"cannot write {folder}: there is no folder {folder.parent}")
    if not os.access(folder.parent, os.W_OK | os.X_OK):
        raise ValueError(f"cannot write {folder}: no permission in {folder.parent}")
