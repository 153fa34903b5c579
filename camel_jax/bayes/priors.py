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

from camel_jax.bayes import coordinates
from camel_jax.bayes.noise import Noise
from camel_jax.laws.camel import DEFAULT_REPEAT
from camel_jax.laws.law import Law
from camel_jax.laws.scaling import DATA_EXPONENT, SIZE_EXPONENT
from camel_jax.types import Array

LEARNT = 0.3  # log standard deviation of the spread of a pooled parameter


class Prior(NamedTuple):
    """Normal prior on a raw parameter.

    Attributes:
      center: its center. sd: standard deviation, of the mean over sets or skills where there is a spread.
      spread: typical standard deviation over the leading axis (sets or skills) around that mean, learnt within a
        factor of e^0.3 or so; None for a parameter on its own.
    """

    center: float
    sd: float
    spread: float | None = None


_SCALING = {
    "level": Prior(0.0, 0.1),
    "reducible": Prior(np.log(0.8), 0.7, 0.4),
    "balance": Prior(0.0, 0.7, 0.5),
    "size_exponent": Prior(np.log(SIZE_EXPONENT), 0.3, 0.2),
    "data_exponent": Prior(np.log(DATA_EXPONENT), 0.3, 0.2),
    "coupling": Prior(-1.0, 0.5, 0.3),
    "mixture": Prior(np.log(0.6), 0.5, 0.4),
}
_SODM = {"part": Prior(0.0, 0.5, 1.0), "mixture_exponent": Prior(np.log(0.5), 0.4, 0.4)}
_TERM = {"mixture": Prior(0.0, 0.5, 0.5), "power": Prior(1.0, 0.5, 0.3)}
_LAWS: dict[str, dict[str, Prior]] = {
    "chinchilla": _SCALING,
    "dml": _SCALING | {"slope": Prior(0.0, 0.2, 0.3)},
    "sodm": _SCALING | _SODM,
    "sodm_joint": _SCALING
    | _SODM
    | {"level": Prior(np.log(0.6), 0.3)}
    | {f"{term}_{name}": prior for term in ("size", "data") for name, prior in _TERM.items()},
    "camel": {
        "level": Prior(0.0, 0.1),
        "floors": Prior(0.0, 0.7, 0.4),
        "read": Prior(0.0, 1.0, 1.0),
        "transfer": Prior(0.0, 2.0),
        "amplitudes": Prior(0.0, 0.7),
        "capacity_exponents": Prior(np.log(SIZE_EXPONENT), 0.3, 0.15),
        "data_exponents": Prior(np.log(DATA_EXPONENT), 0.3, 0.15),
        "balance": Prior(0.0, 1.0),
        "couplings": Prior(-1.0, 0.5, 0.2),
        "active_share": Prior(0.0, 1.5),
        "repeat": Prior(np.log(DEFAULT_REPEAT), 0.5),
    },
}
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
    if law.name not in _LAWS:
        raise ValueError(f"no priors for law {law.name!r}; a posterior is for {', '.join(_LAWS)}")
    known, leaves = _LAWS[law.name], []
    wanted = coordinates.coordinate_shapes(law, raw)
    for name in sorted(wanted):
        leaves.append((name, tuple(wanted[name]), known[name]))
    shapes = {"noise_scale": (sets,), "noise_common": (), "noise_tail": ()} | (
        {"noise_own": ()} if checkpoints > 1 else {}
    )
    leaves += [(name, shape, NOISE[name]) for name, shape in shapes.items()]
    return Layout(law, tuple(leaves))


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
    return coordinates.to_raw(plan.law, raw, mean), noise


def from_raw(plan: Layout, raw: Mapping[str, Array], scale: Array, mean: Array) -> dict[str, np.ndarray]:
    """Standard normals that give these raw parameters, and a noise of this scale (V,): where a sampler starts."""
    raw = coordinates.from_raw(plan.law, raw, mean)
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
