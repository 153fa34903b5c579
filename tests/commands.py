"""Calling the command line in process, as the tests of commands share it."""

import contextlib
import io
import os

import numpy as np
import pytest

from camel_jax import cli


@pytest.fixture(scope="module", autouse=True)
def own_flags():
    """A command adds flags for XLA to the environment; other tests do not see them. Its cache is that of all tests."""
    assert "JAX_COMPILATION_CACHE_DIR" in os.environ  # not the user's
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))
        yield


def call(*arguments):
    """(exit code, stdout, stderr) of a command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end:
        cli.main([str(a) for a in arguments])
    return end.value.code, out.getvalue(), err.getvalue()


def refused(*arguments):
    """The one line of a command that must refuse its input."""
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    lines = [line for line in err.splitlines() if not line.endswith(" ...")]  # progress, where the machine is slow
    assert len(lines) == 1 and lines[0].startswith("error: ") and "Traceback" not in err
    return lines[0]


def put(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(load, path):
    """The one line with which a file is refused."""
    with pytest.raises(ValueError) as error:
        load(path)
    line = str(error.value)
    assert "\n" not in line and str(path) in line and len(line) < 400 + len(str(path))
    return line


def small_table():
    """Nine runs at three sizes, three domains, two sets, smooth losses."""
    rng = np.random.default_rng(5)
    lines = ["run,size,tokens,mix/web,mix/code,mix/wiki,loss/web,loss/code"]
    for i in range(12):
        size = (2e7, 8e7, 3e8)[i % 3]
        w = np.round(rng.dirichlet([4, 2, 2]), 3)
        w[0] = round(1 - w[1] - w[2], 3)
        scale = (size / 1e8) ** -0.2
        losses = 1.8 + 0.9 * scale * (w[0] + 0.1) ** -0.15, 0.7 + 0.6 * scale * (w[1] + 0.05) ** -0.25
        noise = 1 + 0.002 * rng.standard_normal(2)
        lines.append(
            f"r{i},{size:.0f},{20 * size:.0f},{w[0]},{w[1]},{w[2]},{losses[0] * noise[0]},{losses[1] * noise[1]}"
        )
    return "\n".join(lines) + "\n"


SMALL = ("--skills", 2, "--starts", 1, "--resamples", 2)
