"""Generated domains: mathematics with answers, and biographies of invented people.

Mathematics is split by problem. Biographies are split by sentence: each fact is told in several wordings, one of which is kept
for validation, so that validation asks for facts that were seen in words that were not.
"""

from __future__ import annotations

import re
import zlib
from typing import NamedTuple

import numpy as np

PROBLEM_KINDS = ("sum", "difference", "product", "remainder", "equation", "series")
VALIDATION_PART = 8  # one problem in eight
LARGEST = 50  # numbers of a problem lie below
ATTRIBUTES = ("town", "year", "craft", "dish")
WORDINGS = {
    "town": ("{} was born in {}.", "{} comes from {}.", "The home of {} is {}."),
    "year": ("{} was born in the year {}.", "{} first saw light in {}.", "The birth year of {} is {}."),
    "craft": ("{} works as a {}.", "{} earns a living as a {}.", "The craft of {} is that of a {}."),
    "dish": ("{} likes to eat {}.", "{} always orders {}.", "The dish of {} is {}."),
}
_SYLLABLES = re.findall(
    r"[a-z]+",
    "ba be bo da del dor fa fi gar hal in jo ka kel lo lu ma mi nor o pa per qui ra ro sa sel ta to ul va vi",
)


def problem(kind: str, a: int, b: int) -> tuple[str, str]:
    """(question, answer) of a kind of problem, from two numbers.

    >>> problem("sum", 17, 8), problem("equation", 3, 5)
    (('17+8=', '25'), ('x+5=8; x=', '3'))
    """
    if kind == "sum":
        return f"{a}+{b}=", str(a + b)
    if kind == "difference":
        return f"{a + b}-{b}=", str(a)
    if kind == "product":
        return f"{a}*{b % 10}=", str(a * (b % 10))
    if kind == "remainder":
        return f"{a} mod {b % 8 + 2}=", str(a % (b % 8 + 2))
    if kind == "equation":
        return f"x+{b}={a + b}; x=", str(a)
    step = b % 9 + 1
    return f"{a},{a + step},{a + 2 * step},", str(a + 3 * step)


def in_validation(question: str, seed: int) -> bool:
    """Whether a problem is kept for validation; a matter of its question alone."""
    return zlib.crc32(f"{seed}:{question}".encode()) % VALIDATION_PART == 0


def problems(seed: int, n_bytes: int, validation: bool) -> list[tuple[str, str, str]]:
    """(kind, question, answer) of problems that together have about ``n_bytes`` bytes, all of one side of the split."""
    rng = np.random.default_rng([seed, 0x3A, validation])
    out, size = [], 0
    while size < n_bytes:
        draws = zip(rng.integers(len(PROBLEM_KINDS), size=4096), rng.integers(LARGEST, size=(4096, 2)), strict=True)
        for kind, (a, b) in draws:
            question, answer = problem(PROBLEM_KINDS[kind], int(a), int(b))
            if in_validation(question, seed) == validation:
                out.append((PROBLEM_KINDS[kind], question, answer))
                size += len(question) + len(answer) + 1
                if size >= n_bytes:
                    break
    return out


class People(NamedTuple):
    """Invented people and their facts.

    Attributes:
      names: P names. facts: attribute -> P values. values: attribute -> all values it can take.
      popularity: how often each person is told of, (P,), sums to 1. kept: wording kept for validation, (P, attributes).
    """

    names: list[str]
    facts: dict[str, list[str]]
    values: dict[str, list[str]]
    popularity: np.ndarray
    kept: np.ndarray


def make_people(seed: int, count: int) -> People:
    """People with names, facts drawn at random, and popularity by Zipf's law."""
    rng = np.random.default_rng([seed, 0x7B])

    def invent(n: int, syllables: int, taken: set[str]) -> list[str]:
        words: list[str] = []
        while len(words) < n:
            word = "".join(rng.choice(_SYLLABLES, syllables))
            if word not in taken:
                taken.add(word)
                words.append(word)
        return words

    taken: set[str] = set()
    first, last = invent(40, 2, taken), invent(max(60, count // 2), 2, taken)
    pairs = rng.permutation(len(first) * len(last))[:count]
    names = [f"{first[i % len(first)].capitalize()} {last[i // len(first)].capitalize()}" for i in pairs]
    values = {
        "town": [word.capitalize() for word in invent(64, 3, taken)],
        "year": [str(year) for year in range(1900, 1964)],
        "craft": invent(64, 2, taken),
        "dish": invent(64, 2, taken),
    }
    facts = {name: [str(v) for v in rng.choice(values[name], count)] for name in ATTRIBUTES}
    popularity = (1.0 + np.arange(count)) ** -0.6
    return People(names, facts, values, popularity / popularity.sum(), rng.integers(3, size=(count, len(ATTRIBUTES))))


def sentence(people: People, person: int, attribute: int, wording: int) -> str:
    """One fact of a person in one of its wordings."""
    name = ATTRIBUTES[attribute]
    return WORDINGS[name][wording].format(people.names[person], people.facts[name][person])


def biographies(people: People, seed: int, n_bytes: int, validation: bool) -> list[str]:
    """Sentences that together have about ``n_bytes`` bytes: people by popularity, facts at random.

    Each fact is told in the wordings that are not kept for validation, or only in the one that is.
    """
    rng = np.random.default_rng([seed, 0x5C, validation])
    out, size = [], 0
    while size < n_bytes:
        who = rng.choice(len(people.names), 1024, p=people.popularity)
        for person, attribute, other in zip(
            who, rng.integers(4, size=1024), rng.integers(1, 3, size=1024), strict=True
        ):
            kept = int(people.kept[person, attribute])
            out.append(sentence(people, person, attribute, kept if validation else (kept + int(other)) % 3))
            size += len(out[-1]) + 1
            if size >= n_bytes:
                break
    return out
