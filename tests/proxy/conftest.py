"""The corpus that the tests of proxies share."""

import pytest
from tiny_models import SETTINGS

from camel_jax.proxy.corpus import build_corpus
from camel_jax.proxy.train import place_text


@pytest.fixture(scope="session")
def corpus():
    return build_corpus(domain_bytes=80_000, items=40, people=20)


@pytest.fixture(scope="session")
def text(corpus):
    few = {name: corpus.tasks[name] for name in ("arithmetic",)}  # each costs a compilation
    return place_text(corpus._replace(tasks=few), SETTINGS)
