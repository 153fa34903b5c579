"""What the tests of fits share: one key, and the laws by name."""

import jax

from camel_jax import laws

KEY = jax.random.key(1)


def build(name):
    return laws.camel(skills=3) if name == "camel" else laws.CONSTRUCTORS[name]()
