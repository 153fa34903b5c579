"""Saved fits that were damaged, altered or are another's: each ends in one line, and none is believed."""

import dataclasses
import json
import os
import zlib

import chex
import jax
import numpy as np
import pytest
from commands import own_flags, refusal, refused  # noqa: F401  (own_flags is used by its name)

import camel_jax as cj
from camel_jax import laws, storage
from camel_jax.evaluation import simulate
from camel_jax.fitting import saved
from camel_jax.fitting.backtest import BackTest
from camel_jax.fitting.diagnostics import Diagnostics
from camel_jax.storage import ArchiveError, read_archive, write_archive

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def fits(tmp_path_factory):
    """Name -> (path, header, arrays) of small saved fits of three laws on one table."""
    folder, runs = tmp_path_factory.mktemp("fits"), simulate.study(KEY, n_domains=2, n_mixtures=6, sizes=(1e7, 1e8))
    found = {}
    for name, law in (("camel", laws.camel(skills=2)), ("chinchilla", laws.chinchilla()), ("dml", laws.dml())):
        cj.fit(law, runs, key=KEY, starts=2, resamples=2, backtests=1).save(folder / f"{name}.npz")
        found[name] = (folder / f"{name}.npz", *read_archive(folder / f"{name}.npz", saved.KIND))
    return found


def test_every_flipped_byte_is_caught(fits, tmp_path):
    whole, path = fits["camel"][0].read_bytes(), tmp_path / "flipped.npz"
    rng, caught = np.random.default_rng(0), 0
    start = 8 + int.from_bytes(whole[:8], "little")
    places = [*range(start), *range(start, len(whole), max(1, (len(whole) - start) // 1500))]
    for at, by in zip(places, rng.integers(1, 256, len(places)), strict=True):
        raw = bytearray(whole)
        raw[at] ^= int(by)
        path.write_bytes(raw)
        with pytest.raises(ArchiveError):
            read_archive(path, saved.KIND)
        caught += 1
    print(f"{caught} flipped bytes of {len(whole)}, all caught")
    assert caught >= start + 1000


def cut_and_foreign(whole):
    """Name -> bytes of files that no program wrote as they are."""
    start = 8 + int.from_bytes(whole[:8], "little")
    head = json.loads(whole[8:start])

    def with_header(text):
        text = text if isinstance(text, bytes) else json.dumps(text).encode()
        return len(text).to_bytes(8, "little") + text + whole[start:]

    def array(name, **changes):
        return with_header(head | {name: head[name] | changes})

    cases = {f"cut at {n}": whole[:n] for n in (0, 1, 7, 8, 9, 100, start - 1, start, start + 1, len(whole) - 1)}
    cases |= {f"cut {i}": whole[: len(whole) * i // 30] for i in range(1, 30)}
    cases |= {f"longer by {n}": whole + b"\0" * n for n in (1, 8, 1000)}
    cases |= {
        f"header of {n}": n.to_bytes(8, "little") + whole[8:] for n in (0, 1, start, 2**31, 2**40, 2**63, 2**64 - 1)
    }
    cases |= {
        "zeros": b"\0" * 4096,
        "text": b"size,tokens\n1,2\n",
        "zip": b"PK\x03\x04" + b"\0" * 100,
        "twice": whole * 2,
    }
    cases |= {f"bomb of {c}": with_header(c.encode() * 200_000) for c in '[{"\\'}
    cases["deep"] = with_header({**head, "__metadata__": {"camel_jax": "0" * 64 + "[" * 100_000 + "]" * 100_000}})
    cases["7 TiB"] = array("objective", shape=[10**12], data_offsets=[0, 8 * 10**12])
    cases["overflow"] = array("objective", shape=[2**62, 2**62])
    for name in ("objective", "status", "raw/transfer", "field/weights"):
        cases[f"{name}: negative"] = array(name, shape=[-1])
        cases[f"{name}: dtype"] = array(name, dtype="F16")
        cases[f"{name}: no dtype"] = array(name, dtype="X1")
        cases[f"{name}: offsets"] = array(name, data_offsets=[0, 1])
        cases[f"{name}: offsets of text"] = array(name, data_offsets=["a", "b"])
        cases[f"{name}: no table"] = with_header(head | {name: 3})
        cases[f"{name}: gone"] = with_header({k: v for k, v in head.items() if k != name})
    cases |= {f"header {x!r}": with_header(x) for x in (None, [], 3, {}, {"__metadata__": 3}, {"__metadata__": {}})}
    cases["metadata of a list"] = with_header({**head, "__metadata__": {"camel_jax": []}})
    cases["another's metadata"] = with_header({**head, "__metadata__": {"format": "pt"}})
    for old, new in (("seed", "sede"), ("web", "bew"), ('"format', '"fromat')):
        cases[f"{old} to {new}"] = whole.replace(old.encode(), new.encode())
    return cases


def test_cut_and_foreign_files(fits, tmp_path):
    whole, path = fits["camel"][0].read_bytes(), tmp_path / "odd.npz"
    cases = {name: raw for name, raw in cut_and_foreign(whole).items() if raw != whole}
    for name, raw in cases.items():
        path.write_bytes(raw)
        assert "not a saved fit" in refusal(cj.load_fit, path), name
    print(f"{len(cases)} cut or foreign files, all refused")
    assert len(cases) >= 90
    path.write_bytes(whole)
    assert cj.load_fit(path).domains == fits["camel"][1]["domains"] or cj.load_fit(path).domains


def test_a_zip_of_before_says_what_to_do(tmp_path):
    np.savez_compressed(tmp_path / "old.npz", header=np.zeros(3, np.uint8), objective=np.zeros(2))
    assert "fit again" in refusal(cj.load_fit, tmp_path / "old.npz")
    os.mkfifo(tmp_path / "pipe")
    assert "a pipe" in refusal(cj.load_fit, tmp_path / "pipe")
    assert "a folder" in refusal(cj.load_fit, tmp_path)


def altered(header, arrays, others):
    """(name, header, arrays) of files whose checksum agrees, and which are no fit all the same."""
    for name, x in arrays.items():
        rest = {k: v for k, v in arrays.items() if k != name}
        yield f"without {name}", header, rest
        yield f"{name} renamed", header, {**rest, f"{name}_": x}
        yield f"{name} with one more axis", header, {**rest, name: x[None]}
        yield f"{name} as float32", header, {**rest, name: x.astype(np.float32)}
        if x.ndim:
            yield (
                f"{name} longer",
                header,
                {**rest, name: np.concatenate([x, x[:1]])} if len(x) else {**rest, name: x[..., None]},
            )
        if x.dtype.kind == "f" and "objective" not in name:
            for bad in (np.nan, np.inf):
                yield f"{name} with {bad}", header, {**rest, name: np.full_like(x, bad)}
    for name in saved.POSITIVE:
        yield f"{name} of -1", header, {**arrays, name: np.full_like(arrays[name], -1.0)}
    yield "statuses of 9", header, {**arrays, "status": np.full_like(arrays["status"], 9)}
    yield "mean mixture of 2", header, {**arrays, "discrepancy/mean": 2 * arrays["discrepancy/mean"]}
    no_starts = {
        k: x[:0] if k.startswith("raw/") or k in ("objective", "status", "steps") else x for k, x in arrays.items()
    }
    yield "no starts", header, no_starts
    for name in header:
        yield f"no {name}", {k: v for k, v in header.items() if k != name}, arrays
        for bad in (None, 3.5, "x", [3], {"a": {}}, True, -1, [[]], [""], 10**400):
            if not (name == "settings" and bad == {}) and not (name == "diagnostics" and bad is None):
                yield f"{name} of {str(bad)[:8]}", {**header, name: bad}, arrays
    for name in ("domains", "sets"):
        yield f"more {name}", {**header, name: [*header[name], "more"]}, arrays
        yield f"one {name} twice", {**header, name: [header[name][0]] * len(header[name])}, arrays
    for ends in ([1.0, 1.0], [2.0, 1.0], [0.0, 1.0], [1.0, float("inf")], [float("nan"), 1.0], [1.0, 2.0, 3.0]):
        for name in ("size_range", "tokens_range"):
            yield f"{name} of {ends}", {**header, name: ends}, arrays
    for law in [*sorted(set(laws.CONSTRUCTORS) - {header["law"]}), "os.system", "__class__", ""]:
        yield f"law {law!r}", {**header, "law": law}, arrays
        yield f"law {law!r} without settings", {**header, "law": law, "settings": {}}, arrays
    for other, (_, theirs, leaves) in others.items():
        if theirs["law"] != header["law"]:
            yield f"facts of {other}", {**header, "law": theirs["law"], "settings": theirs["settings"]}, arrays
            yield f"arrays of {other}", header, leaves
    for settings in (
        {"skills": 3},
        {"skills": 0},
        {"skills": -1},
        {"skills": 10**9},
        {"skills": "x"},
        {"none": 1},
        {"upgraded": 7},
    ):
        yield f"settings {settings}", {**header, "settings": {**header["settings"], **settings}}, arrays
    test, told = BackTest(1e8, 0.01, 0.9, 0.02, 0.1, 3)._asdict(), Diagnostics("nuts", 2, 50, 1.0, 90.0, 80.0)._asdict()
    for field, values in {
        "size": (0.0, None, 10**400),
        "mean_relative_error": (-1.0, "x"),
        "coverage": (-0.1, 1.5, None),
        "width": (-1.0, None, float("inf")),
        "slope_variance": (None, float("nan")),
        "slopes": (-1, 1.5, 2**64),
    }.items():
        for bad in values:
            yield f"back-test with {field} {str(bad)[:8]}", {**header, "backtests": [{**test, field: bad}]}, arrays
    for field, values in {
        "method": ("hmc", None),
        "chains": (-1, 1.5, True),
        "at_depth": (2.0, None),
        "r_hat": ("x", float("inf")),
        "worst": (3,),
    }.items():
        for bad in values:
            yield f"diagnostics with {field} {bad}", {**header, "diagnostics": {**told, field: bad}}, arrays
    for name, whole, listed in (("backtests", test, True), ("diagnostics", told, False)):
        for field in whole:
            less = {k: v for k, v in whole.items() if k != field}
            yield f"{name} without {field}", {**header, name: [less] if listed else less}, arrays
        more = {**whole, "more": 1}
        yield f"{name} with more", {**header, name: [more] if listed else more}, arrays


@pytest.mark.parametrize("law", ["camel", "chinchilla", "dml"])
def test_files_whose_checksum_agrees_but_that_are_no_fit(law, fits, tmp_path):
    _, header, arrays = fits[law]
    count, believed, path = 0, [], tmp_path / "altered.npz"
    for name, facts, leaves in altered(header, arrays, fits):
        write_archive(path, saved.KIND, facts, leaves)
        try:
            cj.load_fit(path)
        except ArchiveError as error:
            line = str(error)
        else:
            believed.append(name)
            continue
        assert "\n" not in line and str(path) in line and len(line) < 500, name
        count += 1
    print(f"{law}: {count} altered files refused, believed: {believed}")
    assert not believed
    assert count >= 200
    write_archive(path, saved.KIND, header, arrays)
    assert path.read_bytes() == fits[law][0].read_bytes()
    cj.load_fit(path)


def test_other_kinds_and_newer_formats(fits, tmp_path, monkeypatch):
    _, header, arrays = fits["camel"]
    path = tmp_path / "x.npz"
    write_archive(path, "chunk of a fit", header, arrays)
    assert "it is a chunk of a fit" in refusal(cj.load_fit, path)
    monkeypatch.setattr(storage, "FORMAT", 3)
    write_archive(path, saved.KIND, header, arrays)
    monkeypatch.undo()
    assert "written by a newer version" in refusal(cj.load_fit, path)


def test_what_is_no_fit_ends_a_command_with_code_2(fits, tmp_path):
    path, header, arrays = fits["camel"]
    raw = bytearray(path.read_bytes())
    raw[-3] ^= 1
    (tmp_path / "flipped.npz").write_bytes(raw)
    write_archive(tmp_path / "other.npz", saved.KIND, {**header, "law": "dml", "settings": {"upgraded": True}}, arrays)
    for name, says in (("flipped.npz", "checksum"), ("other.npz", "array")):
        assert says in refused("mix", tmp_path / name, "--size", "1B", "--tokens", "1B")


@pytest.mark.parametrize(
    "diagnostics", [None, Diagnostics("laplace", 4, 100, k_hat=np.inf), Diagnostics("nuts", 2, 50)]
)
def test_a_loaded_fit_is_the_fit_that_was_saved(diagnostics, fits, tmp_path):
    tests = (BackTest(1e8, 0.01, 0.9, 0.02, -0.1, 3), BackTest(4e8))
    fitted = dataclasses.replace(cj.load_fit(fits["camel"][0]), backtests=tests, diagnostics=diagnostics)
    fitted.save(tmp_path / "again.npz")
    loaded = cj.load_fit(tmp_path / "again.npz")
    for field in dataclasses.fields(cj.Fit):
        mine, theirs = getattr(loaded, field.name), getattr(fitted, field.name)
        assert type(mine) is type(theirs)
        if field.name in ("raw", "resampled", "units", "discrepancy", "field", "attached"):
            chex.assert_trees_all_equal(mine, theirs)
        elif field.name not in ("law", "inner_law"):
            np.testing.assert_equal(mine, theirs)  # takes NaN for equal to NaN
    assert all(isinstance(test, BackTest) for test in loaded.backtests)
    assert loaded.inner_law.settings == fitted.inner_law.settings and loaded.law.name == fitted.law.name
    assert loaded.check() == fitted.check()


def test_a_fit_that_could_not_be_read_is_not_written(fits, tmp_path):
    fitted = cj.load_fit(fits["camel"][0])
    broken = dataclasses.replace(fitted, raw={**fitted.raw, "transfer": fitted.raw["transfer"] * np.nan})
    with pytest.raises(ArchiveError, match="transfer"):
        broken.save(tmp_path / "broken.npz")
    assert not list(tmp_path.iterdir())


def test_a_stored_file_is_small_and_the_same_twice(fits, tmp_path):
    path, header, arrays = fits["camel"]
    for name in ("a", "b"):
        write_archive(tmp_path / name, saved.KIND, header, dict(reversed(arrays.items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == path.read_bytes()
    assert len(path.read_bytes()) < 3 * len(zlib.compress(path.read_bytes()))
