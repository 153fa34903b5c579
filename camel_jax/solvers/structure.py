"""What a law may tell the least squares solver about itself: sums of powers of exponentials of linear functions.

Chinchilla, DML and additive SODM, coupled or not, all have the form, for one validation set and one row of the table,

    L = sum_j term_j,     term_j = (sum_i exp(p eta_i))^q,     eta_i = offset_i + sum_m theta_m x_m

with row features x that all sets, starts and resamples share. Three kinds of term: one branch and p = q = 1 (E, A N^-a,
k exp(t r)); q fixed and p = 1 (SODM's 1 / sum C_i r_i^g_i has q = -1); q = 1 / p with p = 1 + exp(raw) fitted (the p-norm that
couples size and data). A parameter enters as theta = raw or as theta = exp(raw).

The derivative of log L by a parameter is then (a weight of its branch, softmax-like) x (its feature), so that J'WJ is a few
matrix products of *shared* feature products with weights, and no Jacobian is ever formed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.numerics.batched import Pairs, fast_log
from camel_jax.solvers.projection import Scale
from camel_jax.types import Array


def group_pairs(groups: tuple[tuple[int, ...], ...]) -> Pairs:
    """Parameters of each packed row of J'WJ, in the order in which ``group_normal`` computes them."""
    out = []
    for a, left in enumerate(groups):
        for b, right in enumerate(groups[: a + 1]):
            if a == b:
                out += [(left[i], left[j]) for i in range(len(left)) for j in range(i + 1)]
            else:
                out += [(i, j) for i in left for j in right]
    return tuple(out)


def group_products(group_features: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
    """Products of features, one row a pair, for every two groups; what ``group_normal`` multiplies weights with."""
    return [
        [
            np.stack([left[i] * left[j] for i in range(len(left)) for j in range(i + 1)])
            if a == b
            else np.stack([i * j for i in left for j in right])
            for b, right in enumerate(group_features[: a + 1])
        ]
        for a, left in enumerate(group_features)
    ]


def group_normal(
    groups: tuple[tuple[int, ...], ...],
    chained: tuple[bool, ...],
    data: Any,
    slopes: Sequence[Array],
    chain: Any,
    weights: Array,
    weighted_residual: Array,
) -> tuple[Array, Array]:
    """J'WJ, packed, and J'Wr, where J_i = (slope of i's group) x (feature of i) x (chain_i where ``chained``)."""
    blocks = []
    for a, left in enumerate(groups):
        weighted = weights * slopes[a]
        for b, right in enumerate(groups[: a + 1]):
            block = data["products"][a][b] @ (weighted * slopes[b])
            if any(chained[i] for i in left + right):
                ones = jnp.ones_like(block[0])
                block = block * jnp.stack(
                    [
                        (chain[i] if chained[i] else ones) * (chain[j] if chained[j] else ones)
                        for k, i in enumerate(left)
                        for j in (left[: k + 1] if a == b else right)
                    ]
                )
            blocks.append(block)
    rows: list[Any] = [None] * len(chained)
    for members, features, slope in zip(groups, data["group_features"], slopes, strict=True):
        product = features @ (weighted_residual * slope)
        for k, i in enumerate(members):
            rows[i] = product[k] * chain[i] if chained[i] else product[k]
    return jnp.concatenate(blocks), jnp.stack(rows)


class Term(NamedTuple):
    """One term of a law.

    Attributes:
      branches: for each branch a mapping from a parameter to its feature, an array (R,), (n, R) or a scalar. A parameter is a
        leaf name, or (leaf name, position) for one entry of a vector leaf; a whole vector leaf takes features (n, R).
      power: q above; ignored where ``coupling`` is given.
      coupling: parameter of the p-norm, p = 1 + exp(raw), q = 1 / p; None where p = 1.
      present: (branches, R) boolean, False in the rows where a branch is absent (a zero share); None where all are present.
    """

    branches: Sequence[Mapping[Any, Any]]
    power: float = 1.0
    coupling: str | None = None
    present: Any = None


@dataclasses.dataclass(frozen=True)
class Form:
    """The static half of a structure: which parameter and branch belong where. Hashable, so that jit caches by it."""

    branches: tuple[tuple[int, ...], ...]  # parameters of each branch
    constant: tuple[bool, ...]  # branches whose features do not vary over rows
    absent: tuple[bool, ...]  # branches that are absent in some rows
    terms: tuple[tuple[int, ...], ...]  # branches of each term
    powers: tuple[float, ...]
    couplings: tuple[int, ...]  # parameter of each term's p-norm, -1 for none
    positive: tuple[bool, ...]  # parameters that enter as exp(raw)
    amplitudes: tuple[tuple[int, ...], ...]  # for each term the parameters that scale it, one a branch; empty for none

    @property
    def n_params(self) -> int:
        """Number of parameters P."""
        return len(self.positive)

    @cached_property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Parameters that share a slope: one group a branch, then one a coupling."""
        return self.branches + tuple((c,) for c in self.couplings if c >= 0)

    @cached_property
    def pairs(self) -> Pairs:
        """Parameters of each packed row of J'WJ, in the order in which ``normal`` computes them."""
        return group_pairs(self.groups)

    @cached_property
    def scales(self) -> tuple[Scale, ...]:
        """Terms whose scale is a parameter of every branch; none where terms are coupled, whose starts it leads astray."""
        if any(c >= 0 for c in self.couplings):
            return ()
        # every branch of a term moves together: the term is homogeneous of degree `power`
        terms = zip(self.terms, self.amplitudes, self.powers, strict=True)
        return tuple(Scale(tuple((k, 1.0 / power) for k in own), branches) for branches, own, power in terms if own)

    def shares(self, data: Any, jacobian: Any) -> list[Array]:
        """Share of L of each of the ``scales``' terms, (R, L)."""
        slopes, out = jacobian[0], []
        for branches, own, power in zip(self.terms, self.amplitudes, self.powers, strict=True):
            if own:
                whole = sum(slopes[b] for b in branches)
                out.append(whole if power == 1.0 else whole * (1.0 / power))
        return out

    def _theta(self, raw: Array) -> tuple[Array, Array]:
        """Parameters as they enter, and their derivative by raw, both (P, L)."""
        if not any(self.positive):
            return raw, jnp.ones_like(raw)
        rows = [jnp.exp(raw[i]) if p else raw[i] for i, p in enumerate(self.positive)]
        theta = jnp.stack(rows)
        slope = jnp.stack([r if p else jnp.ones_like(r) for r, p in zip(rows, self.positive, strict=True)])
        return theta, slope

    def _etas(self, data: Any, theta: Array) -> list[Array]:
        """Linear functions of each branch, (R, L), or (1, L) for a constant branch."""
        out = []
        for members, features, constant in zip(self.branches, data["features"], self.constant, strict=True):
            values = theta[np.array(members)] if len(members) > 1 else theta[int(members[0])][None]  # pyright: ignore
            if constant:
                out.append(jnp.sum(features[:, :1] * values, 0, keepdims=True))
            elif len(members) <= 8:  # fused with the exponential; a matrix product this thin costs more
                out.append(sum(features[k][:, None] * values[k] for k in range(len(members))))
            else:
                out.append(features.T @ values)
        return out

    def _terms(self, data: Any, raw: Array, slopes: bool) -> tuple[list[Array], list[Array], Array]:
        """Terms, the derivative of L by each group's linear function over its term, and the derivative of theta."""
        theta, chain = self._theta(raw)
        etas = self._etas(data, theta)
        values, weights, extra = [], [], []
        for members, power, coupling in zip(self.terms, self.powers, self.couplings, strict=True):
            p = 1.0 if coupling < 0 else 1.0 + theta[coupling]
            shares = [jnp.exp(etas[b] if coupling < 0 else p * etas[b]) for b in members]
            for k, b in enumerate(members):
                if self.absent[b]:
                    shares[k] = jnp.where(data["present"][b][:, None], shares[k], 0.0)
            total, log_total = sum(shares), None
            if coupling < 0 and power == 1.0:
                values.append(total)
                weights += shares
                continue
            if coupling < 0 and power == -1.0:
                value = inverse = 1.0 / total
            else:
                log_total = fast_log(total)
                value, inverse = jnp.exp((power if coupling < 0 else 1.0 / p) * log_total), 1.0 / total
            values.append(value)
            if slopes:
                # q = 1 / p cancels the p in d exp(p eta) / d eta
                part = value * inverse * (power if coupling < 0 else 1.0)
                weights += [part * share for share in shares]
                if coupling >= 0 and log_total is not None:
                    mean = sum(share * etas[b] for share, b in zip(shares, members, strict=True)) * inverse
                    extra.append(value * (mean - log_total / p) / p)
        return values, weights + extra, chain

    def evaluate(self, data: Any, raw: Array) -> tuple[Array, Any]:
        """Log predictions (R, L) and what ``normal`` needs of the derivative, at raw (P, L)."""
        values, weights, chain = self._terms(data, raw, True)
        rows = data["features"][0].shape[1]
        total = jnp.broadcast_to(sum(values), (rows, raw.shape[1]))  # a law of constants alone has one row otherwise
        inverse = 1.0 / total
        return fast_log(total), ([w * inverse for w in weights], chain)

    def normal(self, data: Any, jacobian: Any, weights: Array, weighted_residual: Array) -> tuple[Array, Array]:
        """J'WJ, packed (P (P + 1) / 2, L), and J'Wr (P, L)."""
        slopes, chain = jacobian
        return group_normal(self.groups, self.positive, data, slopes, chain, weights, weighted_residual)

    def scaled_terms(self, data: Any, raw: Array) -> list[Array]:
        """Terms (R, L), one after the other; for the projection onto their amplitudes."""
        rows = data["features"][0].shape[1]
        return [jnp.broadcast_to(v, (rows, raw.shape[1])) for v in self._terms(data, raw, False)[0]]


class Structure(NamedTuple):
    """A law's structure on one table: a static ``Form`` and the arrays of that table.

    Attributes:
      form: which parameter belongs where.
      data: pytree of features and their products.
    """

    form: Form
    data: Any


def structure(leaves: Mapping[str, tuple[int, ...]], terms: Sequence[Term], positive: Sequence[str] = ()) -> Structure:
    """Write down a law for the least squares solver; host side.

    Args:
      leaves: shape of every leaf of the raw parameters of one set: () or (n,). Flattened in the order of sorted names, as JAX
        flattens dictionaries.
      terms: the terms of the law.
      positive: leaves that enter as exp(raw).

    Returns:
      A ``Structure`` to give to ``least_squares``.

    Raises:
      ValueError: a parameter that no term or more than one branch uses, or features of the wrong shape.

    >>> log_size = np.log([1e8, 1e9, 1e10])
    >>> s = structure({"floor": (), "scale": (), "exponent": ()},
    ...               [Term([{"floor": 1.0}]), Term([{"scale": 1.0, "exponent": -log_size}])], positive=["exponent"])
    >>> s.form.n_params, s.form.constant
    (3, (True, False))
    """
    index: dict[Any, list[int]] = {}
    names: list[str] = []
    for name in sorted(leaves):
        size = int(np.prod(leaves[name], dtype=int))
        index[name] = list(range(len(names), len(names) + size))
        for position in range(size):
            index[name, position] = [len(names) + position]
        names += [name] * size
    n_rows = max((np.shape(f)[-1] for t in terms for b in t.branches for f in b.values() if np.ndim(f)), default=1)

    branches, features, constant, absent, present = [], [], [], [], []
    members_of_term, powers, couplings, amplitudes = [], [], [], []
    for term in terms:
        members, scale = [], []
        for k, branch in enumerate(term.branches):
            params: list[int] = []
            rows: list[np.ndarray] = []
            for key, feature in branch.items():
                if key not in index:
                    raise ValueError(
                        f"a term uses the parameter {key!r}, which is not among the leaves {sorted(leaves)}"
                    )
                feature = np.asarray(feature, float)
                if feature.ndim < 2:
                    feature = np.broadcast_to(feature, (len(index[key]), n_rows))
                if feature.shape != (len(index[key]), n_rows):
                    raise ValueError(f"features of {key!r} have shape {feature.shape}, not {(len(index[key]), n_rows)}")
                params += index[key]
                rows += list(feature)
            stacked = np.stack(rows)
            fixed = [
                i for i, row in zip(params, stacked, strict=True) if np.all(row == 1.0) and names[i] not in positive
            ]
            scale += fixed[:1]
            members.append(len(branches))
            mask = np.ones(n_rows, bool) if term.present is None else np.asarray(term.present, bool)[k]
            branches.append(tuple(params))
            features.append(stacked)
            constant.append(bool(np.all(stacked == stacked[:, :1])) and bool(mask.all()))
            absent.append(not mask.all())
            present.append(mask)
        members_of_term.append(tuple(members))
        powers.append(float(term.power))
        couplings.append(-1 if term.coupling is None else index[term.coupling][0])
        amplitudes.append(tuple(scale) if len(scale) == len(members) else ())
    used = sorted([i for b in branches for i in b] + [c for c in couplings if c >= 0])
    if used != list(range(len(names))):
        wrong = sorted({names[i] for i in range(len(names)) if used.count(i) != 1})
        raise ValueError(f"every parameter belongs to exactly one branch or coupling; not so: {', '.join(wrong)}")

    is_positive = [name in positive for name in names]
    for c in couplings:
        if c >= 0:
            is_positive[c] = True  # p = 1 + exp(raw)
    form = Form(
        tuple(branches),
        tuple(constant),
        tuple(absent),
        tuple(members_of_term),
        tuple(powers),
        tuple(couplings),
        tuple(is_positive),
        tuple(amplitudes),
    )
    group_features = [*features, *(np.ones((1, n_rows)) for c in couplings if c >= 0)]
    data = {
        "features": features,
        "group_features": group_features,
        "products": group_products(group_features),
        "present": present,
    }
    return Structure(form, jax.tree.map(jnp.asarray, data))
