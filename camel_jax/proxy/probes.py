"""Benchmarks of the built-in domains: multiple choice, scored by the likelihood of each choice after its prompt.

================  ==========  =======  ==========================================================
task              domain      choices  question
================  ==========  =======  ==========================================================
prose_words       prose       4        the next word, among words as long from the same text
brackets          code        3        which bracket closes here
arithmetic        math        4        the answer, among answers to other problems of its kind
biographies       knowledge   4        a fact, among other values of the attribute
language_words    language    4        as prose_words
================  ==========  =======  ==========================================================

Prompts come from validation text; a biography is asked for in the wording that was kept for validation.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from camel_jax.proxy.problems import ATTRIBUTES, People, sentence

PROMPT = 40  # longest prompt cut from running text, bytes


class Item(NamedTuple):
    """One question: what precedes, the choices, and which of them is right."""

    prompt: str
    choices: tuple[str, ...]
    right: int


class Task(NamedTuple):
    """A benchmark as arrays: n questions of c choices, as symbols of the corpus.

    Attributes:
      symbols: prompt and choice, then padding, (n, c, width). asked: where the choice's own symbols are, same shape.
      right: index of the right choice, (n,).
    """

    symbols: np.ndarray
    asked: np.ndarray
    right: np.ndarray


def encode_items(items: list[Item], to_symbol: np.ndarray) -> Task:
    """Questions as arrays, by the corpus's table of symbols (256,)."""
    width = max(len(item.prompt) + len(choice) for item in items for choice in item.choices)
    shape = (len(items), len(items[0].choices), width)
    symbols = np.full(shape, to_symbol[ord("\n")], np.uint8)
    asked = np.zeros(shape, bool)
    for i, item in enumerate(items):
        for c, choice in enumerate(item.choices):
            raw = np.frombuffer((item.prompt + choice).encode("ascii"), np.uint8)
            symbols[i, c, : len(raw)] = to_symbol[raw]
            asked[i, c, len(item.prompt) : len(raw)] = True
    return Task(symbols, asked, np.array([item.right for item in items]))


def _item(rng: np.random.Generator, prompt: str, right: str, wrong: list[str], end: str = "") -> Item:
    choices = [right, *wrong]
    order = rng.permutation(len(choices))
    return Item(prompt, tuple(choices[i] + end for i in order), int(np.argmin(order)))


def arithmetic(problems: list[tuple[str, str, str]], seed: int, count: int) -> list[Item]:
    """Questions from validation problems (kind, question, answer)."""
    rng = np.random.default_rng([seed, 1])
    answers: dict[str, list[str]] = {}
    for kind, _, answer in problems:
        answers.setdefault(kind, []).append(answer)
    distinct = {kind: sorted(set(mine)) for kind, mine in answers.items()}
    items, seen = [], set()
    for kind, question, answer in problems:
        others = [other for other in distinct[kind] if other != answer]
        if question in seen or len(others) < 3:
            continue
        seen.add(question)
        wrong = [str(w) for w in rng.choice(others, 3, replace=False)]
        items.append(_item(rng, "\n" + question, answer, wrong, "\n"))
        if len(items) == count:
            break
    return items


def biographies(people: People, seed: int, count: int) -> list[Item]:
    """Facts of people drawn evenly, in the wording kept for validation."""
    rng = np.random.default_rng([seed, 2])
    asked = rng.permutation(len(people.names) * len(ATTRIBUTES))[:count]
    items = []
    for index in asked:
        person, attribute = int(index) // len(ATTRIBUTES), int(index) % len(ATTRIBUTES)
        name = ATTRIBUTES[attribute]
        right = people.facts[name][person]
        told = sentence(people, person, attribute, int(people.kept[person, attribute]))
        wrong = rng.choice([value for value in people.values[name] if value != right], 3, replace=False)
        items.append(_item(rng, "\n" + told[: -len(right) - 1], right, [str(w) for w in wrong], "."))
    return items


def brackets(files: list[str], seed: int, count: int) -> list[Item]:
    """Which bracket closes, as many of each kind as there can be; the bracket that is open lies within the prompt."""
    rng = np.random.default_rng([seed, 3])
    found: dict[str, list[str]] = {")": [], "]": [], "}": []}
    pairs = {"(": ")", "[": "]", "{": "}"}
    for code in files:
        stack: list[tuple[str, int]] = []
        for i, char in enumerate(code):
            if char in pairs:
                stack.append((pairs[char], i))
            elif char in found and stack and stack[-1][0] == char:
                start = stack.pop()[1]
                if 3 <= i - start < PROMPT <= i:
                    found[char].append(code[i - PROMPT : i])
            elif char in found or char == "\n":
                stack = [] if char in found else stack
    each = min(count // 3, *(len(prompts) for prompts in found.values()))
    items = []
    for right, prompts in found.items():
        for index in rng.permutation(len(prompts))[:each]:
            items.append(_item(rng, prompts[index], right, [other for other in found if other != right]))
    return items


def next_words(texts: list[str], seed: int, count: int) -> list[Item]:
    """The next word of running text, among words of the same length drawn as often as they occur."""
    rng = np.random.default_rng([seed, 4])
    by_length: dict[int, list[str]] = {}
    places = []
    for text in texts:
        start = 0
        for word in text.split(" "):
            if word.isalpha() and len(word) >= 3:
                by_length.setdefault(len(word), []).append(word)
                if start >= PROMPT and start + len(word) < len(text):
                    places.append((text, start, word))
            start += len(word) + 1
    items = []
    for index in rng.permutation(len(places)):
        text, start, word = places[index]
        others = [other for other in by_length[len(word)] if other.lower() != word.lower()]
        if len(set(others)) < 3:
            continue
        wrong: list[str] = []
        while len(wrong) < 3:
            other = others[rng.integers(len(others))]
            if other not in wrong:
                wrong.append(other)
        items.append(_item(rng, text[start - PROMPT : start], word, wrong, " "))
        if len(items) == count:
            break
    return items
