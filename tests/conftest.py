"""Shared test set-up: where the public run tables lie, if they are there."""

import pathlib

import jax
import pytest

import camel_jax

jax.config.update("jax_enable_x64", True)

DATA = pathlib.Path(camel_jax.__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data_folder():
    """Folder of public run tables; the test is skipped where it is absent."""
    if not DATA.is_dir():
        pytest.skip("public run tables not present")
    return DATA
