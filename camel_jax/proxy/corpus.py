"""The corpus: domains of text as symbols, split into training and validation, each with a benchmark where one makes sense.

==========  ==================================================  ============================
domain      what it is                                          split by
==========  ==================================================  ============================
prose       docstrings and help topics of Python                paragraph
code        the standard library without comments               file
math        generated problems with answers                     problem
knowledge   biographies of invented people                      wording of a fact
language    the prose in a second language                      paragraph (as the prose)
any other   a folder of the user's                              file, or paragraph if few
==========  ==================================================  ============================

Text depends on the Python version; the files it came from are recorded with their hashes, and so is the text itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from camel_jax.proxy import probes, problems, sources
from camel_jax.proxy.language import Language
from camel_jax.proxy.probes import Task
from camel_jax.recipes.brief import brief_repr
from camel_jax.storage import read_archive, write_archive

BUILT_IN = ("prose", "code", "math", "knowledge", "language")
PEOPLE = 120
_PRINTABLE = frozenset({10, *range(32, 127)})
_HELD_OUT_OF = 10  # one document in ten


class Corpus(NamedTuple):
    """Text of several domains as symbols.

    Attributes:
      domains: K names.
      alphabet: the byte that each symbol stands for, (A,).
      train: symbols of each domain to train on, K arrays of uint8; documents end with a newline.
      validation: symbols of each domain to validate on, in the same form.
      tasks: name -> ``Task``.
      record: where the text came from, as data for JSON.
    """

    domains: tuple[str, ...]
    alphabet: np.ndarray
    train: tuple[np.ndarray, ...]
    validation: tuple[np.ndarray, ...]
    tasks: dict[str, Task]
    record: dict[str, Any]

    __repr__ = brief_repr


def build_corpus(
    domains: Sequence[str] = BUILT_IN,
    folders: Mapping[str, str | os.PathLike[str]] | None = None,
    *,
    seed: int = 0,
    domain_bytes: int = 6_000_000,
    items: int = 240,
    people: int = PEOPLE,
) -> Corpus:
    """A corpus with training and validation text and benchmarks; the same arguments and files give the same bytes.

    Args:
      domains: names of the domains, in order: built-in ones (prose, code, math, knowledge, language), or keys of ``folders``.
      folders: name -> folder of text files of the user's.
      seed: of the split, of what is generated, and of the choice of files and paragraphs.
      domain_bytes: most training bytes of a domain; validation takes up to an eighth of it. Six million take all of the
        standard library.
      items: most questions of a benchmark.
      people: how many people the knowledge is about.

    Raises:
      ValueError: an unknown domain, a folder without text, or too little text.

    >>> corpus = build_corpus(("math", "knowledge"), domain_bytes=20_000, items=10)
    >>> sorted(corpus.tasks), corpus.domains
    (['arithmetic', 'biographies'], ('math', 'knowledge'))
    """
    folders = dict(folders or {})
    unknown = [name for name in domains if name not in BUILT_IN and name not in folders]
    if unknown:
        raise ValueError(
            f"no text for domain {unknown[0]!r}: the built-in ones are {', '.join(BUILT_IN)}; others need a folder"
        )
    if len(set(domains)) < len(domains) or not domains:
        raise ValueError("domains must be distinct, and at least one")
    if domain_bytes < 20_000:
        raise ValueError(f"domain_bytes {domain_bytes} is below 20000: too little to train on and to measure")
    own = {name: [] for name in domains}
    texts: dict[str, tuple[list[str], list[str]]] = {}
    questions: dict[str, list[probes.Item]] = {}
    built_in = [name for name in domains if name not in folders]
    if {"prose", "code", "language"} & set(built_in):
        _library(texts, own, built_in, seed, domain_bytes)
    for name in domains:
        if name in folders:
            documents = sources.folder_documents(folders[name], own[name].append)
            if len(documents) < 20:
                documents = [part for text in documents for part in text.split("\n\n")]
            texts[name] = _split(documents, seed)
    if "math" in built_in:
        asked = problems.problems(seed, domain_bytes // 8, True)
        trained = problems.problems(seed, domain_bytes, False)
        sides = [[question + answer for _, question, answer in part] for part in (trained, asked)]
        texts["math"] = (sides[0], sides[1])
        questions["arithmetic"] = probes.arithmetic(asked, seed, items)
    if "knowledge" in built_in:
        known = problems.make_people(seed, people)
        sides = [
            problems.biographies(known, seed, n, held) for n, held in ((domain_bytes, False), (domain_bytes // 8, True))
        ]
        texts["knowledge"] = (sides[0], sides[1])
        questions["biographies"] = probes.biographies(known, seed, items)
    if "prose" in built_in:
        questions["prose_words"] = probes.next_words(texts["prose"][1], seed, items)
    if "code" in built_in:
        questions["brackets"] = probes.brackets(texts["code"][1], seed, items)
    if "language" in built_in:
        questions["language_words"] = probes.next_words(texts["language"][1], seed + 1, items)
    settings = {"seed": seed, "domain_bytes": domain_bytes, "items": items, "people": people}
    return _assemble(tuple(domains), texts, {k: v for k, v in questions.items() if v}, own, settings)


def _library(texts: dict, files: dict, wanted: list[str], seed: int, domain_bytes: int) -> None:
    """Prose, code and second language from the standard library, as many files as the bytes need."""
    paths = sources.library_files()
    order = np.random.default_rng([seed, 0x11]).permutation(len(paths))
    notes: list[sources.File] = []
    found = {"prose": sources.paragraphs(sources.help_topics(notes.append)), "code": []}
    needed = {"prose" if name == "language" else name for name in wanted} & {"prose", "code"}
    sizes = {name: [0, 0] for name in found}  # bytes of training and validation

    def count(name: str, documents: list[str]) -> None:
        for text in documents:
            sizes[name][_held_out(text, seed)] += len(text) + 1

    count("prose", found["prose"])
    for docs, source in sources.library_modules([paths[i] for i in order], notes.append):
        for name, documents in (("prose", sources.paragraphs(docs)), ("code", [source] if source else [])):
            count(name, documents)
            found[name] += documents
        if all(sizes[name][0] >= domain_bytes and sizes[name][1] >= domain_bytes // 8 for name in needed):
            break
    prose, code = found["prose"], found["code"]
    if needed & {"prose"}:
        texts["prose"] = _split(prose, seed)
    if "language" in wanted:
        words = Language(seed)
        texts["language"] = tuple([words.translate(text) for text in side] for side in texts["prose"])
    if "code" in wanted:
        texts["code"] = _split(code, seed)
    for name in wanted:
        if name in ("prose", "code", "language"):
            files[name] = notes


def _split(documents: list[str], seed: int) -> tuple[list[str], list[str]]:
    """Distinct documents in random order, (training, validation), by a hash of the document alone."""
    distinct = list(dict.fromkeys(documents))
    order = np.random.default_rng([seed, 0x22]).permutation(len(distinct))
    sides: tuple[list[str], list[str]] = ([], [])
    for i in order:
        sides[_held_out(distinct[i], seed)].append(distinct[i])
    return sides


def _held_out(document: str, seed: int) -> bool:
    return zlib.crc32(f"{seed}:{document}".encode()) % _HELD_OUT_OF == 0


def _assemble(names: tuple[str, ...], texts: dict, questions: dict, files: dict, settings: dict) -> Corpus:
    raw: dict[str, tuple[bytes, bytes]] = {}
    for name in names:
        limits = settings["domain_bytes"], settings["domain_bytes"] // 8
        train, held = (
            "".join(text + "\n" for text in side).encode("utf-8")[:most]
            for side, most in zip(texts[name], limits, strict=True)
        )
        if len(train) < 10_000 or len(held) < 1_000:
            raise ValueError(
                f"domain {name!r} has {len(train)} bytes to train on and {len(held)} to validate: at least 10000 and 1000 are needed"
            )
        raw[name] = train, held
    used = _PRINTABLE.union(*(set(side) for sides in raw.values() for side in sides))
    alphabet = np.array(sorted(used), np.uint8)
    to_symbol = np.zeros(256, np.uint8)
    to_symbol[alphabet] = np.arange(len(alphabet))
    sides = [tuple(to_symbol[np.frombuffer(raw[name][i], np.uint8)] for name in names) for i in (0, 1)]
    encoded = {name: probes.encode_items(items, to_symbol) for name, items in sorted(questions.items())}
    record: dict[str, Any] = {**settings, "domains": {}}
    for name in names:
        listed = json.dumps([tuple(file) for file in files[name]]).encode()
        record["domains"][name] = {
            "train_bytes": len(raw[name][0]),
            "validation_bytes": len(raw[name][1]),
            "distinct_bytes": sum(len(text) + 1 for text in set(texts[name][0])),
            "train_sha256": hashlib.sha256(raw[name][0]).hexdigest(),
            "validation_sha256": hashlib.sha256(raw[name][1]).hexdigest(),
            "files": len(files[name]),
            "file_bytes": sum(file.bytes for file in files[name]),
            "files_sha256": hashlib.sha256(listed).hexdigest(),
        }
    record["tasks"] = {name: len(task.right) for name, task in encoded.items()}
    return Corpus(names, alphabet, sides[0], sides[1], encoded, record)


def save_corpus(corpus: Corpus, path: str | os.PathLike[str]) -> None:
    """Write a corpus as one archive."""
    arrays: dict[str, np.ndarray] = {"alphabet": corpus.alphabet}
    for k in range(len(corpus.domains)):
        arrays |= {f"train{k}": corpus.train[k], f"validation{k}": corpus.validation[k]}
    for name, task in corpus.tasks.items():
        arrays |= {f"task/{name}/{field}": value for field, value in task._asdict().items()}
    head = {"domains": corpus.domains, "tasks": list(corpus.tasks), "record": corpus.record}
    write_archive(path, "text of a sweep", head, arrays)


def load_corpus(path: str | os.PathLike[str]) -> Corpus:
    """Read what ``save_corpus`` wrote.

    Raises:
      ArchiveError: the file is damaged.
    """
    head, data = read_archive(path, "text of a sweep")
    count = range(len(head["domains"]))
    fields = {name: Task(*(data[f"task/{name}/{field}"] for field in Task._fields)) for name in head["tasks"]}
    sides = [tuple(data[f"{side}{k}"] for k in count) for side in ("train", "validation")]
    return Corpus(tuple(head["domains"]), data["alphabet"], sides[0], sides[1], fields, head["record"])
