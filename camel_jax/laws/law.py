"""The contract of a law: a NamedTuple of pure functions, and laws seen in other units."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.laws.coordinates import Coordinates, Prior
from camel_jax.recipes.brief import brief_repr
from camel_jax.recipes.recipe import Recipe
from camel_jax.solvers.structure import Structure
from camel_jax.tables.runs import Runs
from camel_jax.types import Array

Raw = Any  # unconstrained parameters: a pytree of arrays, what optimisers and samplers move
Params = Any  # constrained parameters: a pytree of arrays, what predict reads


def unchanged(raw: Raw) -> Params:
    """Natural parameters of a law that moves them as they are."""
    return raw


FAINT = 1e-3
POOLED = 32  # domains beyond which more of them need no more runs: what runs do not tell of them, the prior says
WIDE = Prior(0.0, 2.0)  # on a raw parameter of which nothing is said


def faint_prior(raw: Any) -> Array:
    """All that a published form gets: enough for its optimum to be finite, next to nothing where the table speaks.

    Without it, exponents of terms that a table does not need run away, and take the other parameters of the set along.
    """
    return sum((-0.5 * FAINT * jnp.sum(leaf**2) for leaf in jax.tree.leaves(raw)), start=jnp.zeros(()))


def flat_leaves(raw: Any) -> dict[str, Any]:
    """Arrays of nested dictionaries by the path to them, as files and samplers name them.

    >>> flat_leaves({"floor": 1.0, "net": {"kernel": 2.0}})
    {'floor': 1.0, 'net/kernel': 2.0}
    """
    out: dict[str, Any] = {}
    for name, leaf in raw.items():
        inner = flat_leaves(leaf) if hasattr(leaf, "items") else None
        out |= {name: leaf} if inner is None else {f"{name}/{key}": x for key, x in inner.items()}
    return out


def nested_leaves(leaves: Any) -> dict[str, Any]:
    """The opposite of ``flat_leaves``.

    >>> nested_leaves({"floor": 1.0, "net/kernel": 2.0})
    {'floor': 1.0, 'net': {'kernel': 2.0}}
    """
    out: dict[str, Any] = {}
    for name, leaf in leaves.items():
        *path, last = name.split("/")
        at = out
        for key in path:
            at = at.setdefault(key, {})
        at[last] = leaf
    return out


class Law(NamedTuple):
    """A law maps a recipe to validation losses.

    Attributes:
      name: short lower-case name, such as "camel".
      init: ``init(key, runs) -> raw``: a random start in unconstrained space for this table; a dictionary of arrays, or of
        dictionaries of them.
      predict: ``predict(params, recipe) -> losses[V]`` for one recipe; callers vmap.
      constrain: ``constrain(raw) -> params``: from unconstrained to natural parameters; the same numbers by default.
      log_prior: ``log_prior(raw) -> scalar``: log density up to a constant, in unconstrained space; by default ``faint_prior``.
      separable: True if every leaf of raw has a leading axis V and set v reads only its own slice.
      min_runs: ``min_runs(runs) -> int``: the fewest runs with which this law can be told apart from noise.
      settings: constructor arguments, so that a saved fit can rebuild its law.
      structure: ``structure(raw, recipe) -> Structure`` of a separable law for the fast path of least squares, or None; may
        give None for parameters or tables without one.
      notes: ``notes(runs) -> (note, ...)``: what a table cannot tell this law, in plain words.
      derivatives: second derivatives of a law whose parameters are shared by all sets but for linear coefficients, for Newton's
        method; None where automatic differentiation serves. See ``JointDerivatives``.
      coordinates: where a posterior is sampled, and priors there; None for a law without a posterior.
      parts: (name, law) of the laws that are fitted apart and predict together; none for most laws. See ``laws.blend``.
      loglinear: what a separable law with linear log losses tells the fit by evidence; None for others. See ``LogLinear``.

    A law of one's own, a power law of the size alone:

    >>> import jax
    >>> import jax.numpy as jnp
    >>> import camel_jax as cj
    >>> power = Law(
    ...     name="power",
    ...     init=lambda key, runs: {"floor": jax.random.normal(key, (len(runs.sets),))},
    ...     predict=lambda params, recipe: params["floor"] + recipe.n_active**-0.25,
    ...     constrain=lambda raw: {"floor": jnp.exp(raw["floor"])},
    ...     log_prior=lambda raw: -0.5 * jnp.sum(raw["floor"] ** 2),
    ... )
    >>> power.predict(power.constrain({"floor": jnp.zeros(2)}), cj.dense(16**4, 2e6, [1.0])).tolist()
    [1.0625, 1.0625]
    """

    name: str
    init: Callable[[Array, Runs], Raw]
    predict: Callable[[Params, Recipe], Array]
    constrain: Callable[[Raw], Params] = unchanged
    log_prior: Callable[[Raw], Array] = faint_prior
    separable: bool = False
    min_runs: Callable[[Runs], int] = lambda runs: 3
    settings: tuple[tuple[str, Any], ...] = ()
    structure: Callable[[Raw, Recipe], Structure | None] | None = None
    parts: tuple[tuple[str, Any], ...] = ()
    notes: Callable[[Runs], tuple[str, ...]] = lambda runs: ()
    derivatives: JointDerivatives | None = None
    coordinates: Coordinates | None = None
    loglinear: LogLinear | None = None

    def __repr__(self) -> str:
        settings = "".join(f", {name}={value!r:.60}" for name, value in self.settings)
        return f"Law({self.name!r}{settings})"[:1000]


class LogLinear(NamedTuple):
    """A law ``log L_v = base_v(N, D) + slope_v . features(r)`` whose slopes are shrunk by the evidence; see ``fitting.evidence``.

    Its raw parameters are those of ``base``, "slope" (V, K), and the logs of "power" and "spread" (V,).

    Attributes:
      base: ``base(raw, recipe) -> (V,)``, from raw parameters of that part alone.
      prior: ``prior(raw) -> scalar``: Gaussian log prior of these.
      features: ``features(weights, power) -> (..., K)``.
      power: center of the prior on the power. spread: that of its logarithm.
    """

    base: Callable[[Raw, Recipe], Array]
    prior: Callable[[Raw], Array]
    features: Callable[[Array, Array], Array]
    power: float
    spread: float


class JointDerivatives(NamedTuple):
    """Derivatives of a law ``L_rv = sum_q exp(phi_vq) b_rq(theta)`` with theta (P,) shared by the sets and phi (V, Q) of each set.

    Attributes:
      supports: ``supports(raw, recipe) -> bool``: whether these parameters and this table have that form.
      pack: ``pack(raw) -> (theta, phi)``. unpack: ``unpack(theta, phi, n_domains) -> raw``, its inverse.
      latent: ``latent(theta, recipe, n_terms) -> (R, Q)``: the terms b of every row.
      arrow: ``arrow(theta, phi, recipe, curvature (V, R), slope (V, R), second) -> (Arrow, gradient (P,), gradient (V, Q))``.
      blocks: ``blocks(theta, phi, recipe, curvature (V, R)) -> (each (G, B, B), last (M, M))``: diagonal blocks of the Gauss-Newton
        matrix of theta, G equal ones and the rest, in the order of theta.
    """

    supports: Callable[[Raw, Recipe], bool]
    pack: Callable[[Raw], tuple[Array, Array]]
    unpack: Callable[[Array, Array, int], Raw]
    latent: Callable[[Array, Recipe, int], Array]
    arrow: Callable[..., tuple[Any, Array, Array]]
    blocks: Callable[[Array, Array, Recipe, Array], tuple[Array, Array]]


class Units(NamedTuple):
    """Scales that bring a table to order one.

    Laws are fitted in these units, so that priors and starts mean the same for every table.

    Attributes:
      size: (), active parameters.
      tokens: (), training tokens.
      losses: (V,), nats per token.

    >>> import numpy as np
    >>> Units(size=1e8, tokens=1e9, losses=np.array([3.0])).tokens
    1000000000.0
    """

    size: Array
    tokens: Array
    losses: Array

    __repr__ = brief_repr


def table_units(runs: Runs) -> Units:
    """Geometric means of active size, tokens and each set's loss over the rows of a table.

    Args:
      runs: the table; NaN losses are left out.

    >>> import numpy as np
    >>> import camel_jax as cj
    >>> recipe = cj.Recipe(*np.array([[1e7, 1e9], [1e7, 1e9], [1e8, 1e10]]), np.ones((2, 1)))
    >>> units = table_units(cj.Runs(recipe, np.array([[4.0], [1.0]]), np.zeros((2, 0)), np.arange(2)))
    >>> round(float(units.size)), round(float(units.tokens)), units.losses.round(6).tolist()
    (100000000, 1000000000, [2.0])
    """
    log_losses = np.log(np.asarray(runs.losses, float))
    seen = np.isfinite(log_losses)
    mean = np.where(seen, log_losses, 0.0).sum(0) / np.maximum(seen.sum(0), 1)
    return Units(
        np.exp(np.mean(np.log(np.asarray(runs.recipe.n_active, float)))),
        np.exp(np.mean(np.log(np.asarray(runs.recipe.tokens, float)))),
        np.exp(mean),
    )


def scale_recipe(units: Units, recipe: Recipe) -> Recipe:
    """The same recipe with sizes and tokens measured in ``units``."""
    supply = None if recipe.supply is None else recipe.supply / units.tokens
    return Recipe(
        recipe.n_total / units.size,
        recipe.n_active / units.size,
        recipe.tokens / units.tokens,
        recipe.weights,
        supply,
    )


def scale_runs(units: Units, runs: Runs) -> Runs:
    """The same table measured in ``units``."""
    return Runs(
        scale_recipe(units, runs.recipe),
        runs.losses / units.losses,
        runs.accuracies,
        runs.run,
        runs.domains,
        runs.sets,
        runs.tasks,
        runs.run_names,
    )


def in_units(law: Law, units: Units) -> Law:
    """The law seen from outside: takes recipes and tables, and gives losses, in raw parameters, tokens and nats.

    Args:
      law: a law in units of a table.
      units: those units.

    >>> import jax
    >>> import numpy as np
    >>> import camel_jax as cj
    >>> from camel_jax.evaluation import simulate
    >>> runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=8, sizes=(1e7, 1e8))
    >>> law, units = cj.laws.chinchilla(), Units(1e8, 1e9, np.array([3.0, 2.0]))
    >>> params = law.constrain(law.init(jax.random.key(1), runs))
    >>> outside = in_units(law, units).predict(params, cj.dense(1e8, 1e9, [0.5, 0.5]))
    >>> inside = law.predict(params, cj.dense(1.0, 1.0, [0.5, 0.5]))
    >>> bool((outside == inside * units.losses).all())
    True
    """

    def init(key: Array, runs: Runs) -> Raw:
        return law.init(key, scale_runs(units, runs))

    def predict(params: Params, recipe: Recipe) -> Array:
        return law.predict(params, scale_recipe(units, recipe)) * units.losses

    return law._replace(init=init, predict=predict)


@partial(jax.jit, static_argnums=0)
def constrain_all(law: Law, raw: Raw) -> Params:
    """Natural parameters of a batch of unconstrained ones: every leaf has a leading axis."""
    return jax.vmap(law.constrain)(raw)


def predict_rows(law: Law, params: Params, recipe: Recipe) -> Array:
    """Losses (R, V) of a recipe batched over a leading axis R; a shared ``supply`` of shape (K,) is broadcast.

    Args:
      law: a law.
      params: its constrained parameters.
      recipe: recipes with leading axis R, in the units of the law.

    >>> import jax
    >>> import camel_jax as cj
    >>> from camel_jax.evaluation import simulate
    >>> runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=8, sizes=(1e7, 1e8))
    >>> law = cj.laws.chinchilla()
    >>> predict_rows(law, law.constrain(law.init(jax.random.key(1), runs)), runs.recipe).shape
    (48, 2)
    """
    supply = recipe.supply
    if supply is not None and jnp.ndim(supply) < jnp.ndim(recipe.weights):
        recipe = Recipe(
            recipe.n_total,
            recipe.n_active,
            recipe.tokens,
            recipe.weights,
            jnp.broadcast_to(supply, jnp.shape(recipe.weights)),
        )
    return jax.vmap(law.predict, in_axes=(None, 0))(params, recipe)


@lru_cache(maxsize=64)
def raw_coordinates(*priors: tuple[str, Prior], default: Prior = WIDE) -> Coordinates:
    """Coordinates of a law whose raw parameters serve as they are, with priors by name.

    Args:
      priors: (name, prior) of raw parameters; nested ones are named by their path, as in "net/kernel".
      default: prior of all others.

    >>> raw_coordinates(("floor", Prior(0.0, 1.0))).default
    Prior(center=0.0, sd=2.0, spread=None)
    """
    return Coordinates(
        lambda raw: {name: tuple(jnp.shape(x)) for name, x in flat_leaves(raw).items()},
        lambda at, mean: nested_leaves(at),
        lambda raw, mean: flat_leaves(raw),
        priors,
        default,
    )


def runs_for_domains(runs: Runs) -> int:
    """The fewest runs for a law whose prior holds domains together: three more than domains, up to ``POOLED`` of them.

    >>> import jax
    >>> from camel_jax.evaluation import simulate
    >>> [runs_for_domains(simulate.study(jax.random.key(0), n_domains=k, n_mixtures=4)) for k in (5, 300)]
    [8, 35]
    """
    return min(len(runs.domains), POOLED) + 3


def varies(values: Array, tolerance: float = 1e-6) -> bool:
    """Whether a column of a table takes more than one value; host side."""
    values = np.asarray(values, float)
    return bool(values.size and values.max() > values.min() * (1.0 + tolerance))
