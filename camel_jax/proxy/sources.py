"""Where text comes from: what every Python installation carries, and a user's own folders.

Every source gives documents (str) in a fixed order, and notes of every file its name, bytes and SHA-256.
"""

from __future__ import annotations

import ast
import hashlib
import os
import pathlib
import re
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

_SKIP = {"site-packages", "test", "tests", "idlelib", "lib2to3", "turtledemo", "__pycache__", "ensurepip", "encodings"}
_SPACE = re.compile(r"[ \t]+")
_UNPRINTABLE = re.compile(r"[^\n\x20-\x7e]")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
TEXT_SUFFIXES = frozenset(
    {".txt", ".md", ".rst", ".tex", ".py", ".js", ".ts", ".c", ".h", ".cpp", ".rs", ".go", ".java", ".html", ".css"}
    | {".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".sh", ".org", ".log", ".srt"}
)


class File(NamedTuple):
    """A file that text was read from: its name, size and SHA-256."""

    name: str
    bytes: int
    sha256: str


Note = Callable[[File], None]


def _noted(name: str, raw: bytes, note: Note) -> bytes:
    note(File(name, len(raw), hashlib.sha256(raw).hexdigest()))
    return raw


def printable(text: str) -> str:
    """Text as printable ASCII and newlines; whatever else there is becomes a question mark.

    >>> printable("na\\u00efve\\ttext")
    'na?ve text'
    """
    return _UNPRINTABLE.sub("?", text.replace("\t", " "))


def library_files() -> list[pathlib.Path]:
    """The Python files of the standard library, tests left out, by name."""
    root = pathlib.Path(sysconfig.get_paths()["stdlib"])
    found = [path for path in root.rglob("*.py") if not _SKIP.intersection(path.relative_to(root).parts)]
    return sorted(path for path in found if path.relative_to(root).as_posix() != "pydoc_data/topics.py")


def library_modules(files: list[pathlib.Path], note: Note) -> Iterator[tuple[str, str]]:
    """(docstrings, code) of standard library files.

    Code comes without docstrings, comments and blank lines, formatted by Python itself; a file that does not parse gives nothing.
    """
    root = pathlib.Path(sysconfig.get_paths()["stdlib"])
    for path in files:
        raw = path.read_bytes()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(raw)
        except (SyntaxError, ValueError):
            continue
        docs = []
        for node in ast.walk(tree):
            if isinstance(node, _DOCUMENTED):
                text = ast.get_docstring(node)
                if text is not None:
                    docs.append(text)
                    node.body = node.body[1:] or [ast.Pass()]
        _noted(path.relative_to(root).as_posix(), raw, note)
        lines = ast.unparse(tree).splitlines()
        yield "\n\n".join(docs), printable("\n".join(line for line in lines if line.strip()))


def help_topics(note: Note) -> str:
    """The topics of Python's own ``help()``."""
    from pydoc_data import topics

    text = "\n\n".join(topics.topics[name] for name in sorted(topics.topics))
    _noted("pydoc_data.topics", text.encode(), note)
    return text


def paragraphs(text: str, least: int = 60) -> list[str]:
    """Paragraphs of running text, one line each: no listings, tables or interpreter sessions, nothing below ``least`` bytes.

    >>> paragraphs("One short.\\n\\n" + "Words that run on, " * 4 + "and end.\\n\\n>>> code(1)")[0][:18]
    'Words that run on,'
    """
    kept = []
    for block in re.split(r"\n\s*\n", printable(text)):
        line = _SPACE.sub(" ", block.replace("\n", " ")).strip()
        letters = sum(char.isalpha() or char == " " for char in line)
        if len(line) >= least and ">>>" not in line and letters >= 0.85 * len(line):
            kept.append(line)
    return kept


def folder_documents(folder: str | os.PathLike[str], note: Note) -> list[str]:
    """The text files of a folder and of those below it, by name; hidden ones and files that are not UTF-8 text are left out.

    Raises:
      ValueError: there is no such folder, or no text in it.
    """
    root = pathlib.Path(folder)
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder of text")
    documents = []
    for path in sorted(root.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if hidden or path.suffix.lower() not in TEXT_SUFFIXES or not path.is_file():
            continue
        raw = path.read_bytes()
        try:
            text = raw.decode("utf-8").replace("\r\n", "\n").strip()
        except UnicodeDecodeError:
            continue
        if text and "\0" not in text:
            _noted(path.relative_to(root).as_posix(), raw, note)
            documents.append(text)
    if not documents:
        raise ValueError(f"{root}: holds no text files (such as .txt, .md or .py)")
    return documents
