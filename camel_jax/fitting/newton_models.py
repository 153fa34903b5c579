"""What a Newton step of a joint fit knows of the objective around a point, in two forms.

**Dense**: the arrow matrix of the law, the sets eliminated (Schur complement), the shared matrix decomposed. Its cost grows with the
cube of the shared parameters.

**Matrix-free**: products with the same matrix, whose cost is linear in domains, rows and sets, and a Lanczos basis of some tens of
them. Preconditioned by the diagonal blocks of Gauss-Newton, so that directions in which only the prior speaks need no products.
Within the basis each direction gets the size of its own curvature, as the eigenvectors of the dense form give it to all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from camel_jax.laws.law import JointDerivatives, Law
from camel_jax.numerics.batched import by_matrix
from camel_jax.recipes.recipe import Recipe
from camel_jax.types import Array


class Quadratic(NamedTuple):
    """Priors as quadratic forms: of theta, and a center and a precision for every phi.

    Attributes:
      add_value: ``add_value(scalar, theta)``: the scalar plus the form at theta, with the constants of all.
      add_gradient: ``add_gradient((P,), theta)``: the vector plus the form's gradient.
      matrix: its matrix (P, P), or None in the matrix-free form.
      center: (V, Q). precision: (V, Q).
    """

    add_value: Callable[[Array, Array], Array]
    add_gradient: Callable[[Array, Array], Array]
    matrix: Array | None
    center: Array
    precision: Array


class Model(NamedTuple):
    """A quadratic model of the objective in the shared and the own parameters of the sets.

    Attributes:
      by_theta, by_phi: gradient, (P,) and (V, Q). own: (V, Q, Q) curvature of the sets' own parameters.
      to_shared: ``(V, Q) -> (P,)``: the curvature between own and shared parameters. to_own: its transpose.
      unknown: a stand-in for a decomposition that is not there yet. is_known: whether one is there.
      decompose: ``decompose(left (V, Q, Q))``: the curvature of the shared parameters, the sets' own (as Cholesky factors) eliminated.
      solve: ``solve(decomposition, reduced gradient, damping) -> (d theta, |d theta|^2 in units of the damping)``.
    """

    by_theta: Array
    by_phi: Array
    own: Array
    to_shared: Callable[[Array], Array]
    to_own: Callable[[Array], Array]
    unknown: Any
    is_known: Callable[[Any], Array]
    decompose: Callable[[Array], Any]
    solve: Callable[[Any, Array, Array], tuple[Array, Array]]


def quadratic_priors(
    law: Law, known: JointDerivatives, theta: Array, phi: Array, n_domains: int, dense: bool
) -> Quadratic:
    """The quadratic form behind a law's log prior, by differentiating it at zero."""

    def by_theta(theta: Array) -> Array:
        return -law.log_prior(known.unpack(theta, jnp.zeros_like(phi), n_domains))

    def by_phi(phi: Array) -> Array:
        return -law.log_prior(known.unpack(jnp.zeros_like(theta), phi, n_domains))

    # the own prior is a sum over parameters, so that one derivative along all ones gives its diagonal
    zero, ones = jnp.zeros_like(phi), jnp.ones_like(phi)
    slope, precision = jax.jvp(jax.grad(by_phi), (zero,), (ones,))
    center = -slope / precision
    constant = by_phi(zero) - 0.5 * jnp.sum(precision * center**2)
    start = jnp.zeros_like(theta)
    if not dense:
        nothing = by_theta(start)
        return Quadratic(
            lambda value, theta: value + constant + (by_theta(theta) - nothing),
            lambda gradient, theta: gradient + jax.grad(by_theta)(theta),
            None,
            center,
            precision,
        )
    matrix, linear = jax.hessian(by_theta)(start), jax.grad(by_theta)(start)
    return Quadratic(
        lambda value, theta: value + constant + 0.5 * theta @ matrix @ theta + linear @ theta,
        lambda gradient, theta: gradient + matrix @ theta + linear,
        matrix,
        center,
        precision,
    )


def dense_model(
    known: JointDerivatives,
    recipe: Recipe,
    prior: Quadratic,
    theta: Array,
    phi: Array,
    curvature: Array,
    slope: Array,
    second: Array,
) -> Model:
    """The model by the arrow matrix of a law."""
    assert prior.matrix is not None
    eye, matrix = jnp.eye(phi.shape[1]), prior.matrix
    arrow, by_theta, by_phi = known.arrow(theta, phi, recipe, curvature, slope, second)
    shared, own = arrow.shared + matrix, arrow.own + prior.precision[:, :, None] * eye
    by_theta = prior.add_gradient(by_theta, theta)
    by_phi = by_phi + prior.precision * (phi - prior.center)
    scale = jnp.maximum(jnp.abs(jnp.diagonal(shared)), jnp.diagonal(matrix)) + 1e-12
    unit = jax.lax.rsqrt(scale)

    def decompose(left: Array) -> _Spectrum:
        """Of the shared parameters' matrix, the sets' own eliminated; NaN where an own matrix is not positive definite."""
        half = by_matrix(_half, left, jnp.swapaxes(arrow.cross, 1, 2)).reshape(-1, len(theta))
        return _decompose((shared - half.T @ half) * unit[:, None] * unit)

    def solve(spectrum: _Spectrum, reduced: Array, damping: Array) -> tuple[Array, Array]:
        move = -unit * _saddle_free(spectrum, unit * reduced, damping)
        return move, jnp.sum(scale * move**2)

    return Model(
        by_theta,
        by_phi,
        own,
        lambda own: jnp.einsum("vpq,vq->p", arrow.cross, own),
        lambda move: jnp.einsum("vpq,p->vq", arrow.cross, move),
        _Spectrum(shared * jnp.nan, jnp.array(False), by_theta, shared),
        lambda spectrum: jnp.isfinite(spectrum.matrix[0, 0]),
        decompose,
        solve,
    )


class _Basis(NamedTuple):
    """A Lanczos basis (N, P) in preconditioned coordinates, and the eigenvalues (N,) and axes (N, N) of the matrix within it."""

    vectors: Array
    values: Array
    axes: Array


def free_model(
    known: JointDerivatives,
    recipe: Recipe,
    prior: Quadratic,
    products: int,
    theta: Array,
    phi: Array,
    curvature: Array,
    slope: Array,
    second: Array,
) -> Model:
    """The same model without its matrix; ``products``: with the matrix, in a step."""
    eye, scales = jnp.eye(phi.shape[1]), jnp.exp(phi)
    latent, along = jax.linearize(lambda theta: known.latent(theta, recipe, phi.shape[1]), theta)
    back = jax.linear_transpose(along, theta)
    losses = scales @ latent.T
    share = scales[:, None, :] * latent / losses[..., None]  # (V, R, Q)
    per_loss = slope / losses
    pulled = scales.T @ per_loss  # (Q, R): slopes of the latent terms
    weight = curvature - second * slope

    by_theta = prior.add_gradient(back(pulled.T)[0], theta)
    own_slope = jnp.einsum("vr,vrq->vq", slope, share)
    by_phi = own_slope + prior.precision * (phi - prior.center)
    own = jnp.einsum("vrp,vrq->vpq", share * weight[..., None], share)
    own = own + (second * own_slope + prior.precision)[:, :, None] * eye

    def to_own(move: Array) -> Array:
        terms = along(move)  # (R, Q)
        told = weight * (scales @ terms.T) / losses
        return jnp.einsum("vrq,vr->vq", share, told) + second * scales * (per_loss @ terms)

    def to_shared(own: Array) -> Array:
        told = weight * jnp.einsum("vrq,vq->vr", share, own) / losses
        return back((scales.T @ told + second * ((scales * own).T @ per_loss)).T)[0]

    bend = jax.linearize(jax.grad(lambda theta: jnp.vdot(known.latent(theta, recipe, phi.shape[1]), pulled.T)), theta)[
        1
    ]
    no_prior = prior.add_gradient(jnp.zeros_like(theta), jnp.zeros_like(theta))

    def shared_times(move: Array) -> Array:
        told = weight * (scales @ along(move).T) / losses**2
        out = back((scales.T @ told).T)[0] + prior.add_gradient(-no_prior, move)
        return out + jax.lax.cond(second > 0, lambda: second * bend(move), lambda: jnp.zeros_like(move))

    each, last = known.blocks(theta, phi, recipe, curvature)
    groups, width, _ = each.shape
    split = groups * width
    # the prior's own: a diagonal over the groups, a block for the rest
    ones = jnp.concatenate([jnp.ones(split), jnp.zeros(theta.size - split)])
    diagonal = (prior.add_gradient(-no_prior, ones)[:split]).reshape(groups, width)
    rest = lambda move: prior.add_gradient(-no_prior, jnp.concatenate([jnp.zeros(split), move]))[split:]  # noqa: E731
    corner = jax.vmap(rest)(jnp.eye(theta.size - split))
    of_groups = by_matrix(_inverse_root, each + diagonal[:, :, None] * jnp.eye(width))
    of_rest = _inverse_root(last + corner)

    def forth(x: Array) -> Array:
        """From a gradient to preconditioned coordinates."""
        some = jnp.einsum("kij,kj->ki", of_groups, x[:split].reshape(groups, width))
        return jnp.concatenate([some.ravel(), of_rest @ x[split:]])

    def home(y: Array) -> Array:
        """From preconditioned coordinates to a move."""
        some = jnp.einsum("kji,kj->ki", of_groups, y[:split].reshape(groups, width))
        return jnp.concatenate([some.ravel(), of_rest.T @ y[split:]])

    def decompose(left: Array) -> _Basis:
        inverse = by_matrix(_inverse_of_root, left)

        def times(y: Array) -> Array:
            move = home(y)
            eliminated = jnp.einsum("vpq,vq->vp", inverse, to_own(move))
            return forth(shared_times(move) - to_shared(eliminated))

        reduced = by_theta - to_shared(jnp.einsum("vpq,vq->vp", inverse, by_phi))
        return _lanczos(times, forth(reduced), products)

    def solve(basis: _Basis, reduced: Array, damping: Array) -> tuple[Array, Array]:
        inside = basis.axes.T @ (basis.vectors @ forth(reduced))
        move = -(basis.axes @ (inside / (jnp.abs(basis.values) + damping)))
        return home(move @ basis.vectors), jnp.sum(move**2)

    size = min(products, theta.size)
    unknown = _Basis(jnp.zeros((size, theta.size)), jnp.full(size, jnp.nan), jnp.zeros((size, size)))
    return Model(
        by_theta,
        by_phi,
        own,
        to_shared,
        to_own,
        unknown,
        lambda basis: jnp.isfinite(basis.values[0]),
        decompose,
        solve,
    )


def _lanczos(times: Callable[[Array], Array], start: Array, products: int) -> _Basis:
    """A basis of the Krylov space of a symmetric matrix, orthogonalised in full at every step."""
    size = min(products, start.size)

    def body(i: Array, carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        vectors, main, side, new = carry
        vectors = vectors.at[i].set(new)
        image = times(new)
        main = main.at[i].set(image @ new)
        for _ in range(2):  # once is not enough where the space is nearly exhausted
            image = image - (vectors @ image) @ vectors
        norm = jnp.linalg.norm(image)
        alive = norm > 1e-10 * jnp.abs(main[0])
        side = side.at[i].set(jnp.where(alive, norm, 0.0))
        return vectors, main, side, jnp.where(alive, image / jnp.where(alive, norm, 1.0), 0.0)

    norm = jnp.linalg.norm(start)
    nothing = jnp.zeros((size, start.size)), jnp.zeros(size), jnp.zeros(size)
    first = jnp.where(norm > 0, start / jnp.where(norm > 0, norm, 1.0), 0.0)
    vectors, main, side, _ = jax.lax.fori_loop(0, size, body, (*nothing, first))
    matrix = jnp.diag(main) + jnp.diag(side[:-1], 1) + jnp.diag(side[:-1], -1)
    return _Basis(vectors, *jnp.linalg.eigh(matrix, symmetrize_input=False))


class _Spectrum(NamedTuple):
    """A symmetric matrix (P, P), whether it is positive definite, and where not, its eigenvalues (P,) and axes (P, P)."""

    matrix: Array
    convex: Array
    values: Array
    axes: Array


def _decompose(matrix: Array) -> _Spectrum:
    # without a negative eigenvalue no eigenvectors are needed, and to find that out takes a tenth of the time
    convex = jnp.all(jnp.isfinite(jnp.diagonal(jnp.linalg.cholesky(matrix, symmetrize_input=False))))
    nothing = jnp.zeros(len(matrix)), jnp.zeros_like(matrix)
    bent = lambda: tuple(jnp.linalg.eigh(matrix, symmetrize_input=False))  # noqa: E731
    return _Spectrum(matrix, convex, *jax.lax.cond(convex, lambda: nothing, bent))


def _saddle_free(known: _Spectrum, gradient: Array, damping: Array) -> Array:
    """``(|matrix| + damping)^-1 gradient``, where |matrix| has the absolute eigenvalues of the matrix."""

    def bent(gradient: Array) -> Array:
        return known.axes @ ((known.axes.T @ gradient) / (jnp.abs(known.values) + damping))

    def convex(gradient: Array) -> Array:
        firm = known.matrix + damping * jnp.eye(len(gradient))
        return solve_one(jnp.linalg.cholesky(firm, symmetrize_input=False), gradient)

    return jax.lax.cond(known.convex, convex, bent, gradient)


def _half(left: Array, right: Array) -> Array:
    return jax.scipy.linalg.solve_triangular(left, right, lower=True)


def _inverse_root(matrix: Array) -> Array:
    """Inverse of the lower Cholesky factor of a matrix."""
    return _half(jnp.linalg.cholesky(matrix, symmetrize_input=False), jnp.eye(len(matrix)))


def _inverse_of_root(left: Array) -> Array:
    """Inverse of a matrix from its lower Cholesky factor."""
    half = _half(left, jnp.eye(len(left)))
    return half.T @ half


def solve_one(left: Array, right: Array) -> Array:
    """Solve for a vector with a lower Cholesky factor."""
    half = jax.lax.linalg.triangular_solve(left, right[:, None], left_side=True, lower=True)
    return jax.lax.linalg.triangular_solve(left, half, left_side=True, lower=True, transpose_a=True)[:, 0]
