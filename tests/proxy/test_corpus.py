"""The proxy corpus and its items: the same bytes twice, nothing of training in validation, right answers."""

import sys

import chex
import numpy as np
import pytest
from tiny_models import spelled

from camel_jax.proxy import probes, problems, sources
from camel_jax.proxy.corpus import BUILT_IN, build_corpus, load_corpus, save_corpus
from camel_jax.proxy.language import Language


def test_same_seed_same_bytes(corpus, tmp_path):
    again = build_corpus(domain_bytes=80_000, items=40, people=20)
    assert again.record == corpus.record
    other = build_corpus(domain_bytes=80_000, items=40, people=20, seed=1)
    for name in BUILT_IN:
        mine, theirs = (c.record["domains"][name] for c in (corpus, other))
        assert mine["train_sha256"] != theirs["train_sha256"]
    assert corpus.record["domains"]["code"]["files"] > 0 and corpus.record["domains"]["math"]["files"] == 0
    save_corpus(corpus, tmp_path / "c.npz")
    back = load_corpus(tmp_path / "c.npz")
    assert back.record == corpus.record and back.domains == corpus.domains
    chex.assert_trees_all_equal(back.train + back.validation, corpus.train + corpus.validation)
    for name, task in corpus.tasks.items():
        chex.assert_trees_all_equal(back.tasks[name], task)


@pytest.mark.parametrize("name", [name for name in BUILT_IN if name != "code"])
def test_train_and_validation_share_no_document(corpus, name):
    k = corpus.domains.index(name)
    sides = [set(spelled(corpus, side[k]).split("\n")[:-1]) for side in (corpus.train, corpus.validation)]
    assert min(map(len, sides)) > 5 and not sides[0] & sides[1]


def test_code_is_split_by_file_and_has_no_comments(corpus):
    k = corpus.domains.index("code")
    train, held = (spelled(corpus, side[k]) for side in (corpus.train, corpus.validation))
    pieces = [held[i : i + 300] for i in range(0, len(held) - 300, 300)]
    assert len(pieces) >= 10 and not [piece for piece in pieces if piece in train]
    assert '"""' not in train and "\n#" not in train and "\n    #" not in train


def test_facts_of_validation_were_seen_in_other_words():
    people = problems.make_people(0, 20)
    known = problems.biographies(people, 0, 60_000, False)
    held = set(problems.biographies(people, 0, 8_000, True))
    assert len(set(people.names)) == 20 and people.popularity[0] > 2 * people.popularity[-1]
    train = set(known)
    for person in range(20):
        for attribute in range(4):
            kept = people.kept[person, attribute]
            told = [problems.sentence(people, person, attribute, w) for w in range(3)]
            assert told[kept] not in train
            assert all(told[w] in train and told[w] not in held for w in range(3) if w != kept)


def test_problems_have_right_answers():
    for kind, question, answer in problems.problems(0, 20_000, False):
        assert not problems.in_validation(question, 0)
        left = question.split("=")[0] if kind != "equation" else ""
        if kind in ("sum", "difference", "product"):
            assert eval(left) == int(answer)
        elif kind == "remainder":
            assert eval(left.replace("mod", "%")) == int(answer)
        elif kind == "equation":
            plus, total = question.removeprefix("x+").removesuffix("; x=").split("=")
            assert int(answer) + int(plus) == int(total)
        else:
            terms = [int(term) for term in (question + answer).split(",")]
            assert set(np.diff(terms)) == {terms[1] - terms[0]}


def test_language_keeps_stems_and_punctuation():
    words = Language(0)
    out = words.translate("The parser returns a token, and the parsers return tokens.").split()
    assert out[0].lower() == words.translate("the") != "the" and out[0][0].isupper()
    assert out[1].startswith("parser"[:4]) and out[4].endswith(",") and out[-1].endswith(".")
    assert len(out) == 10 and Language(1).translate("the") != words.translate("the")


def test_folders_of_text(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    rng = np.random.default_rng(0)
    letters = list("abcdefgh é")
    for i in range(30):
        (folder / f"{i:02d}.txt").write_text("".join(rng.choice(letters, 1_500)), encoding="utf-8")
    (folder / "bad.txt").write_bytes(b"\xff\xfe\x00")
    (folder / "image.png").write_bytes(b"\x89PNG")
    (folder / ".hidden.txt").write_text("hidden")
    made = build_corpus(("mine", "math"), {"mine": folder}, domain_bytes=25_000, items=10)
    assert made.record["domains"]["mine"]["files"] == 30 and list(made.tasks) == ["arithmetic"]
    train, held = (
        spelled(made, side[0]).encode("latin-1").decode(errors="replace") for side in (made.train, made.validation)
    )
    assert set(train) <= {*letters, "\n", "�"} and "é" in train
    assert not set(held.split("\n")[:-1]) & set(train.split("\n"))
    small = tmp_path / "small"
    small.mkdir()
    with pytest.raises(ValueError, match="holds no text"):
        build_corpus(("a",), {"a": small})
    (small / "a.txt").write_text("too short")
    with pytest.raises(ValueError, match="at least 10000 and 1000"):
        build_corpus(("a",), {"a": small})
    with pytest.raises(ValueError, match="no such folder"):
        build_corpus(("a",), {"a": tmp_path / "none"})
    with pytest.raises(ValueError, match="no text for domain 'web'"):
        build_corpus(("web",))
    with pytest.raises(ValueError, match="below 20000"):
        build_corpus(domain_bytes=10)


def test_sources_note_their_files():
    notes = []
    files = sources.library_files()[:3]
    code = [source for _, source in sources.library_modules(files, notes.append)]
    assert [note.bytes for note in notes] == [path.stat().st_size for path in files]
    assert all(len(note.sha256) == 64 for note in notes) and all("\n\n" not in source for source in code)


def test_right_choices_are_right(corpus):
    people = problems.make_people(0, 20)
    facts = {person: {people.facts[name][i] for name in problems.ATTRIBUTES} for i, person in enumerate(people.names)}
    # brackets are asked where the code that comes with Python has enough of them: not before 3.12
    more = {"brackets"} if sys.version_info >= (3, 12) else set()
    assert set(corpus.tasks) - more == {"arithmetic", "biographies", "language_words", "prose_words"}
    for name, task in corpus.tasks.items():
        n, choices, _ = task.symbols.shape
        assert n >= 20 and set(task.right) == set(range(choices))
        for i in range(n):
            shown = [spelled(corpus, task.symbols[i, c][task.asked[i, c]]) for c in range(choices)]
            prompt = spelled(corpus, task.symbols[i, 0]).removesuffix("\n")[: int(np.argmax(task.asked[i, 0]))]
            right = shown[task.right[i]]
            assert len(set(shown)) == choices
            if name == "biographies":
                person = next(person for person in facts if person in prompt)
                assert right.removesuffix(".") in facts[person]
            elif name == "arithmetic":
                kinds = [(k, q, a) for k, q, a in problems.problems(0, 80_000 // 8, True) if "\n" + q == prompt]
                assert kinds[0][2] + "\n" == right
            elif name != "brackets":
                assert {len(choice) for choice in shown} == {len(right)}
                held = spelled(corpus, corpus.validation[corpus.domains.index(name.split("_")[0])])
                assert prompt + right in held or len(held) >= 80_000 // 8


def test_brackets_that_close():
    code = [
        "x" * 50 + "\n" + "value = table[first(a, b), {key: other[1, 2]}]\ncall(long_name, [1, 2, 3], {4, 5, 6})\n" * 3
    ]
    items = probes.brackets(code, 0, 9)
    assert sorted(item.choices[item.right] for item in items) == [*")))]]]}}}"]
    for item in items:
        depth: list[str] = []
        for char in item.prompt:
            if char in "([{":
                depth.append(char)
            elif depth and depth[-1] == "([{"[")]}".index(char)] if char in ")]}" else False:
                depth.pop()
        assert depth[-1] == "([{"[")]}".index(item.choices[item.right])] and sorted(item.choices) == [*")]}"]


def test_items_keep_the_right_choice():
    items = probes.next_words(
        ["one two three four five seven eight nine kilo lima"] * 3 + ["x" * 45 + " alpha gamma delta omega."], 0, 4
    )
    assert items and all(
        item.choices[item.right].strip() in "seven eight nine kilo lima alpha gamma delta omega" for item in items
    )
