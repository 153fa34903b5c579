"""``camel-jax demo``."""


def demo() -> None:
    """Recommend a demoture."""
