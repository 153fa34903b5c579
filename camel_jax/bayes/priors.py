"""What is believed of a law before the table: weakly informative priors in units of the table, pooled where sets or skills repeat.

Everything lives in the unconstrained space of the optimiser, and every number a sampler moves is a standard normal before it has
seen data (non-centred), so that priors, curvatures and step sizes are all of order one:

    value   = center + sd z                                                               on its own
    value_v = mean + spread e^(0.3 z') z_v,  mean = center + sd z''                          pooled over sets v or skills
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from camel_jax.bayes.noise import Noise
from camel_jax.laws.coordinates import Coordinates, Prior
from camel_jax.laws.law import Law, raw_coordinates
from camel_jax.types import Array

LEARNT = 0.3  # log standard deviation of the spread of a pooled parameter


NOISE = {
    "noise_scale": Prior(np.log(0.005), 1.0, 0.4),
    "noise_common": Prior(0.0, 1.0),
    "noise_own": Prior(0.0, 1.0),
    "noise_tail": Prior(np.log(8.0), 0.7),
}


class Layout(NamedTuple):
    """What the model needs to know of a law and a table besides arrays; hashable.

    Attributes:
      law: the law in units of the table. leaves: (name, shape, prior) of its raw parameters and of the noise.
    """

    law: Law
    leaves: tuple[tuple[str, tuple[int, ...], Prior], ...]

    @property
    def sites(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the standard normals behind the parameters."""
        out: dict[str, tuple[int, ...]] = {}
        for name, shape, prior in self.leaves:
            out[name] = shape
            if prior.spread is not None:
                out |= {f"{name}_mean": shape[1:], f"{name}_spread": ()}
        return out


def layout(law: Law, raw: Mapping[str, Any], checkpoints: int, sets: int) -> Layout:
    """The parameters of a law on a table.

    Args:
      law: the law in units of the table. raw: its raw parameters, for their shapes.
      checkpoints: most checkpoints of a run. sets: V.

    Raises:
      ValueError: there are no priors for this law.
    """
    coordinates = coordinates_of(law)
    known, leaves = dict(coordinates.priors), []
    wanted = coordinates.shapes(raw)
    for name in sorted(wanted):
        leaves.append((name, tuple(wanted[name]), known.get(name, coordinates.default) or known[name]))
    shapes = {"noise_scale": (sets,), "noise_common": (), "noise_tail": ()} | (
        {"noise_own": ()} if checkpoints > 1 else {}
    )
    leaves += [(name, shape, NOISE[name]) for name, shape in shapes.items()]
    return Layout(law, tuple(leaves))


def coordinates_of(law: Law) -> Coordinates:
    """The coordinates in which a law is sampled: its own, or its raw parameters with wide priors.

    Raises:
      ValueError: the law is several laws.
    """
    if law.parts:
        raise ValueError(f"law {law.name!r} is several laws, which are not sampled together: take one of them")
    return raw_coordinates() if law.coordinates is None else law.coordinates


def to_raw(plan: Layout, z: Mapping[str, Array], mean: Array) -> tuple[dict[str, Array], Noise]:
    """Raw parameters of the law and parameters of the noise from standard normals; mean: the reference mixture, (K,)."""
    raw = {}
    for name, _, prior in plan.leaves:
        if prior.spread is None:
            raw[name] = prior.center + prior.sd * z[name]
        else:
            middle = prior.center + prior.sd * z[f"{name}_mean"]
            raw[name] = middle + prior.spread * jnp.exp(LEARNT * z[f"{name}_spread"]) * z[name]
    own = raw.pop("noise_own", None)
    noise = Noise(
        jnp.exp(raw.pop("noise_scale")),
        _share(raw.pop("noise_common")),
        jnp.zeros(()) if own is None else _share(own),
        2.0 + jnp.exp(raw.pop("noise_tail")),
    )
    return coordinates_of(plan.law).to_raw(raw, mean), noise


def from_raw(plan: Layout, raw: Mapping[str, Array], scale: Array, mean: Array) -> dict[str, np.ndarray]:
    """Standard normals that give these raw parameters, and a noise of this scale (V,): where a sampler starts."""
    raw = coordinates_of(plan.law).from_raw(raw, mean)
    z = {name: np.zeros(shape) for name, shape in plan.sites.items()}
    for name, _, prior in plan.leaves:
        if name.startswith("noise_") and name != "noise_scale":
            continue
        value = np.log(np.asarray(scale)) if name == "noise_scale" else np.asarray(raw[name], float)
        if prior.spread is None:
            z[name] = (value - prior.center) / prior.sd
        else:
            z[f"{name}_mean"] = (value.mean(0) - prior.center) / prior.sd
            z[name] = (value - value.mean(0)) / prior.spread
    return z


def _share(logit: Array) -> Array:
    return 0.01 + 0.98 / (1.0 + jnp.exp(-logit))
