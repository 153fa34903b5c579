"""What a command reads besides tables: fits and mixtures."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from camel_jax.runtime import start_engine
from camel_jax.storage import check_source


def read_mixture(path: pathlib.Path, domains: Sequence[str]) -> Any:
    """One mixture (K,), from a mixture.json or from a table with mix/ columns (the mean of its rows)."""
    import numpy as np

    if path.suffix.lower() == ".json":
        check_source(path)
        try:
            weights = json.loads(path.read_text())["weights"]
            weights = {str(name): float(share) for name, share in weights.items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise ValueError(f"{path}: not a mixture.json") from None
    else:
        from camel_jax.tables.read import read_mixtures

        shares = read_mixtures(path)
        weights = {name: float(np.mean(column)) for name, column in shares.items()}
    if set(weights) != set(domains):
        raise ValueError(f"{path}: its domains are {', '.join(weights)}; those of the fit are {', '.join(domains)}")
    return np.array([weights[domain] for domain in domains])


def open_fit(path: pathlib.Path) -> Any:
    """Load a fit, with the engine started."""
    if not path.exists():
        raise ValueError(f"{path}: no such file")
    start_engine()
    from camel_jax.fitting.result import load_fit

    return load_fit(path)
