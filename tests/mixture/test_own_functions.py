"""Objectives and limits that are functions of one's own: known optima, everywhere decisions are made, and errors that name them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

import camel_jax as cj
from camel_jax.budget.best_recipe import best_recipe
from camel_jax.mixture.feasibility import InfeasibleError
from camel_jax.mixture.objectives import Objective, as_objective

NAMES = ["web", "code", "books"]
SCALE = jnp.array([0.5, 0.3, 0.2])


def losses(weights):
    """Two sets that pull apart."""
    return jnp.stack([jnp.sum(SCALE * (weights + 0.1) ** -0.3), jnp.sum(SCALE[::-1] * (weights + 0.1) ** -0.5)])


def worst_set(outcome):
    """Losses as a smooth maximum."""
    return 0.01 * jax.nn.logsumexp(outcome.losses / 0.01)


def entropy(weights):
    """Room above an entropy of 1.05 nats; the uniform mixture has 1.0986."""
    return -jnp.sum(weights * jnp.log(jnp.maximum(weights, 1e-12))) - 1.05


def by_slsqp(objective, rooms=()):
    """The same optimum by another method, from several starts."""
    constraints = [{"type": "eq", "fun": lambda w: w.sum() - 1}]
    constraints += [{"type": "ineq", "fun": lambda w, g=g: float(g(jnp.asarray(w)))} for g in rooms]
    found = [
        minimize(lambda w: float(objective(jnp.asarray(w))), start, bounds=[(1e-9, 1)] * 3, constraints=constraints,
                 method="SLSQP", options={"ftol": 1e-13, "maxiter": 500})
        for start in ([1 / 3] * 3, [0.5, 0.3, 0.2])
    ]  # fmt: skip
    return min((r for r in found if r.success), key=lambda r: r.fun)


def test_an_objective_of_ones_own_is_minimised():
    best = cj.optimize_mixture(losses, objective=worst_set, domains=NAMES, starts=8)
    other = by_slsqp(lambda w: worst_set(cj.Outcome(losses(w))))
    assert best.objective == "worst_set" and best.status == "converged"
    np.testing.assert_allclose(best.weights, other.x, atol=2e-4)
    assert best.value.point <= other.fun + 1e-9
    up = cj.optimize_mixture(
        losses, objective=cj.custom(lambda o: -o.losses[0], maximize=True), domains=NAMES, starts=8
    )
    down = cj.optimize_mixture(losses, objective=cj.single_set(0), domains=NAMES, starts=8)
    np.testing.assert_allclose(up.weights, down.weights, atol=1e-6)
    assert as_objective("loss/web").weights and isinstance(as_objective(worst_set), Objective)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["of the weights", "of the outcome"])
def test_a_limit_of_ones_own_is_met_and_binds(kind):
    ceiling = float(losses(jnp.array([0.4, 0.3, 0.3]))[1])

    def room(slack):
        if kind == "of the weights":
            return lambda weights: entropy(weights) + slack
        return lambda weights, outcome: ceiling - outcome.losses[1] + slack

    of = entropy if kind == "of the weights" else (lambda w: ceiling - losses(w)[1])
    best = cj.optimize_mixture(
        losses, objective=cj.single_set(0), domains=NAMES, constraints={kind: room(0.0)}, starts=8
    )
    other = by_slsqp(lambda w: losses(w)[0], [of])
    np.testing.assert_allclose(best.weights, other.x, atol=1e-4)
    assert best.value.point <= other.fun + 1e-8 and float(of(best.weights)) > -1e-8 and best.violation == 0.0
    (binding,) = best.limits
    assert binding.name == kind and binding.binds and binding.multiplier > 0
    assert best.certificate.convex and best.certificate.gap < 1e-4 and best.certificate.residual < 1e-3
    relaxed = cj.optimize_mixture(
        losses, objective=cj.single_set(0), domains=NAMES, constraints={kind: room(1e-3)}, starts=8
    )
    gained = best.value.point - relaxed.value.point
    assert gained == pytest.approx(1e-3 * binding.multiplier, rel=0.05)
    further = by_slsqp(lambda w: losses(w)[0], [lambda w: of(w) + 0.01])
    assert binding.step == 0.01 and not binding.at_least
    assert binding.gain == pytest.approx(
        best.value.point - further.fun, rel=1e-3
    )  # solved again with that much more room


@pytest.mark.slow
def test_own_limits_join_named_ones_and_leave_others_alone():
    limits: dict[str, Any] = {"bounds": {"code": (0.3, None)}}
    best = cj.optimize_mixture(losses, domains=NAMES, constraints={"spread": entropy}, starts=4, **limits)
    assert best.weights[1] >= 0.3 and entropy(best.weights) > -1e-8
    free = cj.optimize_mixture(losses, domains=NAMES, starts=4, **limits)
    loose = cj.optimize_mixture(losses, domains=NAMES, constraints={"always": lambda w: 1.0 + w[0]}, starts=4, **limits)
    np.testing.assert_allclose(loose.weights, free.weights, atol=1e-6)
    assert not next(limit for limit in loose.limits if limit.name == "always").binds


@pytest.mark.slow
def test_fronts_paths_ranges_and_budgets_take_both():
    options = {"domains": NAMES, "constraints": {"spread": entropy}, "starts": 4}
    front = cj.pareto_front(losses, worst_set, lambda outcome: outcome.losses[0], 4, **options)
    assert len(front.first) >= 3 and front.labels == ("worst_set", "custom")
    assert all(entropy(w) > -1e-7 for w in front.weights)
    near = cj.near_optimal(losses, 0.02, objective=worst_set, samples=16, **options)
    assert all(entropy(w) > -1e-7 for w in near.samples)
    at = lambda n, d: lambda w: losses(w) + 400 * n**-0.34 + 400 * d**-0.34  # noqa: E731
    path = cj.optimum_path(at, [1e8, 1e9], 1e10, objective=worst_set, **options)
    assert all(entropy(w) > -1e-7 for w in path.weights)
    best = best_recipe(at, 6e20, sizes=("100M", "1T"), objective=worst_set, **options)
    assert entropy(best.weights) > -1e-7 and best.n_active == pytest.approx(1e10, rel=0.02)


def test_what_cannot_be_met_is_named():
    with pytest.raises(InfeasibleError, match="too much"):
        cj.optimize_mixture(losses, domains=NAMES, constraints={"too much": lambda w: w[0] - 2.0}, starts=2)
    with pytest.raises(InfeasibleError, match="half"):
        bounds = {"web": (None, 0.2)}
        cj.optimize_mixture(losses, domains=NAMES, constraints={"half": lambda w: w[0] - 0.5}, bounds=bounds, starts=2)


def out_of_range(outcome):
    return outcome.losses @ jnp.ones(5)


def needs_values(outcome):
    return outcome.losses[0] if outcome.losses[0] > 1 else outcome.losses[1]


def in_own_words(outcome):
    raise ValueError("the objective wants three sets")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"objective": out_of_range}, ["'out_of_range'", "test_own_functions.py, line", "losses (2,)", "(5,)"]),
        ({"objective": needs_values}, ["'needs_values'", "jnp.where in place of if"]),
        ({"objective": lambda o: o.losses}, ["one number per mixture", "(2,)"]),
        ({"objective": lambda o: o.accuracies.mean()}, ["'custom'", "no accuracies"]),
        ({"objective": lambda o: jnp.reshape(o.losses, 7)}, ["'custom'", "losses (2,)", "cannot reshape"]),
        ({"objective": lambda o: jnp.broadcast_to(o.losses, (5,))}, ["'custom'", "losses (2,)", "Incompatible"]),
        ({"objective": in_own_words}, ["the objective wants three sets"]),
        ({"objective": 3.0}, ["objective: give", "float"]),
        ({"constraints": {"odd": lambda w: w @ jnp.ones(7)}}, ["'odd'", "weights (3,)"]),
        ({"constraints": {"odd": lambda w: w}}, ["'odd'", "one number"]),
        ({"constraints": {"odd": lambda a, b, c: a}}, ["'odd'", "the weights and the outcome"]),
        ({"constraints": {"odd": 3}}, ["'odd'", "int"]),
        ({"constraints": [entropy]}, ["{name: function}"]),
    ],
)
def test_errors_name_the_users_function(options, said):
    with pytest.raises(ValueError) as error:
        cj.optimize_mixture(losses, domains=NAMES, starts=2, **options)
    message = str(error.value)
    assert all(part in message for part in said), message
    assert "Tracer" not in message and "\n" not in message
