"""``camel-jax mix``."""


def mix() -> None:
    """Recommend a mixture."""
