"""What a fit will take before it begins, and the number of resamples and starts that its cost allows."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import jax
import numpy as np

from camel_jax.fitting.backtest import RESAMPLES, backtest_sizes
from camel_jax.fitting.cost import Shape, dense_is_quicker, dense_step, free_step, wide_step
from camel_jax.fitting.lanes import one_blas_thread
from camel_jax.fitting.separable import WIDE, crowded_steps, is_crowded
from camel_jax.fitting.stacking import FOLDS, LARGEST
from camel_jax.laws.blend import usual_weights
from camel_jax.laws.law import Law
from camel_jax.tables.runs import Runs

REFERENCE = 1.04e-3  # seconds of the probe of ``slowness`` where the steps were timed
START_STEPS, WARM_STEPS = 200.0, 70.0  # of a joint law, on average
WIDE_START, WIDE_WARM = (
    250.0,
    90.0,
)  # of a separable law with many parameters; more where it has as many as the table has rows
COMPILING = 12.0  # seconds of a core for the programs of one law, where the compilation cache does not have them
PATIENCE = 80.0  # seconds of a core of the reference from which a default fit is made with fewer resamples and starts
FEWER = ((32, 4), (16, 4), (8, 3), (8, 2))  # resamples and starts of a default fit, the most that ``PATIENCE`` allows


class Forecast(NamedTuple):
    """What a fit will take: ``seconds``, within a factor of two where it is long, on ``cores`` cores."""

    seconds: float
    cores: int

    def __str__(self) -> str:
        minutes = self.seconds / 60
        return f"about {self.seconds:.0f} s" if minutes < 3 else f"about {minutes:.0f} minutes"


def slowness() -> float:
    """Seconds that a core of this machine takes for what the reference takes one: a product of matrices, the quickest of eight."""
    a, seconds = np.random.default_rng(0).standard_normal((300, 300)), []
    with one_blas_thread():
        for _ in range(8):
            begin = time.perf_counter()
            np.matmul(a, a)
            seconds.append(time.perf_counter() - begin)
    return min(seconds) / REFERENCE


def forecast(
    law: Law, runs: Runs, *, resamples: int = 0, starts: int = 4, backtests: int = 3, slow: float | None = None
) -> Forecast:
    """Seconds that ``fit`` will take with an empty compilation cache.

    Args:
      law, runs, resamples, starts, backtests: as for ``fit``.
      slow: seconds of this machine for one of the reference; measured if None.

    Returns:
      A ``Forecast``, from the shapes of the table and the timings in ``cost``.
    """
    cores = len(jax.local_devices())
    tests = len(backtest_sizes(runs, backtests))
    total = 0.0
    asked = usual_weights([name for name, _ in law.parts], runs) > 0 if law.parts else np.ones(1, bool)
    parts = [part for (_, part), yes in zip(law.parts, asked, strict=True) if yes] if law.parts else [law]
    folds = FOLDS + min(LARGEST, len(backtest_sizes(runs, LARGEST))) if len(parts) > 1 else 0
    for part in parts:
        warm = resamples + folds + tests * min(resamples, RESAMPLES)
        first = starts + tests * (8 if part.separable else 1)
        if part.separable and is_crowded(params := _params_of(part, runs), len(runs)):
            each = 1 + tests + folds + resamples + tests * min(resamples, RESAMPLES)
            total += COMPILING + crowded_steps(params, len(runs)) * _step(part, runs) * each
            continue
        total += COMPILING + _start_cost(part, runs) * first + _warm_cost(part, runs) * warm
    return Forecast((slowness() if slow is None else slow) * total / cores, cores)


def _step(law: Law, runs: Runs) -> float:
    """Seconds of a step of all sets of one lane."""
    raw = jax.eval_shape(lambda key: law.init(key, runs), jax.random.key(0))
    rows, sets = np.shape(runs.losses)
    if law.separable:
        params = _params(raw, runs)
        # lanes of few parameters are stepped together, and take many more steps
        return sets * (wide_step(params, rows) if params > WIDE else 0.8 * wide_step(params, rows))
    if law.derivatives is None:
        return 1e-3
    shape = _shape(law, raw, runs)
    return dense_step(shape) if dense_is_quicker(shape) else free_step(shape)


def _start_cost(law: Law, runs: Runs) -> float:
    return _step(law, runs) * (WIDE_START if law.separable else START_STEPS)


def _warm_cost(law: Law, runs: Runs) -> float:
    return _step(law, runs) * (WIDE_WARM if law.separable else WARM_STEPS)


def affordable(law: Law, runs: Runs, resamples: int | None, starts: int | None) -> tuple[int, int]:
    """Resamples and starts of a default fit: as many of ``FEWER`` as ``PATIENCE`` allows; those that are given stay.

    The choice is by the time of the reference, so that it is the same on every machine. Small tables always get the most.
    """
    some, first = resamples or 0, starts or 1
    for fewer, few in FEWER:
        some, first = fewer if resamples is None else resamples, few if starts is None else starts
        found = forecast(law, runs, resamples=some, starts=first, slow=1.0)
        if found.seconds * found.cores <= PATIENCE or not _is_large(law, runs):
            break
    return some, first


def _is_large(law: Law, runs: Runs) -> bool:
    """Whether a part of a law is fitted by a solver for large tables."""
    for part in [one for _, one in law.parts] or [law]:
        raw = jax.eval_shape(lambda key, part=part: part.init(key, runs), jax.random.key(0))
        if part.separable and _params(raw, runs) > WIDE:
            return True
        if part.derivatives is not None and not dense_is_quicker(_shape(part, raw, runs)):
            return True
    return False


def _params_of(law: Law, runs: Runs) -> int:
    """Parameters of one set of a separable law."""
    return _params(jax.eval_shape(lambda key: law.init(key, runs), jax.random.key(0)), runs)


def _params(raw: Any, runs: Runs) -> int:
    return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(raw)) // len(runs.sets)


def _shape(law: Law, raw: Any, runs: Runs) -> Shape:
    assert law.derivatives is not None
    theta, phi = jax.eval_shape(law.derivatives.pack, raw)
    return Shape(theta.size, len(runs), len(runs.domains), len(runs.sets), phi.shape[1])
