"""A small problem of least squares that the tests of the solvers share: DML with a size term."""

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.solvers.prior import Prior
from camel_jax.solvers.structure import Term, structure

R, K, V, B, S = 40, 3, 3, 4, 3
NAMES = ("exponent", "floor", "mix", "scale", "slope")


def predict(raw, row):
    """DML with a size term: exp(floor) + exp(mix + slope . r) + exp(scale - exp(exponent) n)."""
    mixture, n = row
    return (
        jnp.exp(raw["floor"])
        + jnp.exp(raw["mix"] + raw["slope"] @ mixture)
        + jnp.exp(raw["scale"] - jnp.exp(raw["exponent"]) * n)
    )


def make(seed=0, noise=0.01, n_sets=V, n_resamples=B, n_starts=S):
    rng = np.random.default_rng(seed)
    mixture = rng.dirichlet(np.ones(K), R)
    mixture[::7, 0] = 0.0
    mixture /= mixture.sum(1, keepdims=True)
    n = rng.choice([-2.0, -0.5, 0.5, 2.0], R)
    truth = {
        "exponent": np.log(0.3) + 0.1 * rng.standard_normal(n_sets),
        "floor": 0.5 + 0.1 * rng.standard_normal(n_sets),
        "mix": 0.1 * rng.standard_normal(n_sets),
        "scale": 0.2 + 0.1 * rng.standard_normal(n_sets),
        "slope": rng.standard_normal((n_sets, K)),
    }
    clean = jax.vmap(lambda row: jax.vmap(lambda raw: predict(raw, row))(truth))((mixture, n))
    losses = np.asarray(clean) * np.exp(noise * rng.standard_normal((R, n_sets)))
    starts = {k: v[None] + 0.3 * rng.standard_normal((n_starts, *v.shape)) for k, v in truth.items()}
    counts = rng.multinomial(R, np.ones(R) / R, size=n_resamples).astype(float)
    return (mixture, n), losses, starts, counts, truth


def declare(rows, names=NAMES):
    mixture, n = rows
    terms = [
        Term([{"floor": 1.0}]),
        Term([{"mix": 1.0, "slope": mixture.T}]),
        Term([{"scale": 1.0, "exponent": -n}]),
    ]
    return structure({k: ((K,) if k == "slope" else ()) for k in names}, terms, positive=["exponent"])


PRIOR = Prior(np.zeros(K + 4), np.full(K + 4, 1e-3))


def flat(params):
    return np.concatenate([np.asarray(params[k]).reshape(*np.shape(params[k])[:3], -1) for k in sorted(params)], -1)
