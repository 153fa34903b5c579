"""What a batch of fits has in common: law, solver, objective, and the folder that finished lanes are kept in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from camel_jax.fitting import joint_newton
from camel_jax.fitting.objective import Data, Robust, objective
from camel_jax.laws.law import Law
from camel_jax.solvers import status as status_codes
from camel_jax.solvers.minimize import Solution, adam, lbfgs
from camel_jax.storage import Kept
from camel_jax.types import Array

Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class Lanes:
    """What all lanes of one program share; hashable, so that equal settings share one compiled program.

    Attributes:
      law, solver, robust, max_steps: as for ``fit``.
      keep: folder in which finished chunks are kept, and looked for before they are solved; None for none.
    """

    law: Law
    solver: str
    robust: Robust
    max_steps: int | None
    keep: str | None = dataclasses.field(default=None, compare=False)

    def minimize(self, raw: Any, data: Data, warm: Array = False) -> Solution:
        """Minimise the objective from one start with the solver of these lanes; ``warm``: the start is near the solution."""
        limit = {} if self.max_steps is None else {"max_steps": self.max_steps}
        if self.solver == "newton":
            schedule = joint_newton.Schedule(**limit)
            return joint_newton.minimize_joint(self.law, raw, data, self.robust, schedule, warm=warm)
        function = objective(self.law, data, self.robust)
        return (adam if self.solver == "adam" else lbfgs)(function, raw, **limit)

    def kept(self, data: Data) -> Kept:
        """The store of finished chunks of these lanes on one table."""
        law = self.law
        code = getattr(law.predict, "__code__", None)
        settings = (law.name, law.settings, law.predict.__qualname__, self.solver, self.robust, self.max_steps)
        return Kept(self.keep, (*settings, None if code is None else code.co_code), data)


class Request(NamedTuple):
    """Lanes that a fit needs solved before it goes on; see ``lanes.solve_lanes`` for what the attributes mean."""

    lanes: Lanes
    data: Data
    raw: Any
    counts: Array | None
    warm: bool = False
    chunk: int | None = None
    progress: Progress | None = None


T = TypeVar("T")
Asking = Generator[
    Request, Solution, T
]  # work that asks for lanes as it goes, so that many tables can be solved together


def answer(asking: Asking[T], solve: Callable[[Request], Solution]) -> T:
    """The result of work that asks for lanes, with a way to solve them.

    >>> def work():
    ...     return (yield "lanes") + 1
    >>> answer(work(), lambda request: len(request))
    6
    """
    try:
        request = next(asking)
        while True:
            request = asking.send(solve(request))
    except StopIteration as done:
        return done.value


def solution_like(raw: Any, lead: int) -> Solution:
    """Shapes and dtypes of a solution whose parameters are laid out as ``raw``, with ``lead`` axes of lanes."""
    lanes = jax.tree.leaves(raw)[0].shape[:lead]
    params = jax.tree.map(lambda x: np.broadcast_to(np.zeros((), x.dtype), x.shape), raw)
    return Solution(params, np.zeros(lanes), np.zeros(lanes, np.int32), np.zeros(lanes, np.int32))


def is_sound(solution: Solution) -> bool:
    """Whether every status is one, and the parameters of lanes that ended well are finite."""
    if not np.isin(solution.status, list(status_codes.TEXTS)).all():
        return False
    well = np.isfinite(solution.objective) & (np.asarray(solution.status) != status_codes.NON_FINITE)
    return all(np.isfinite(np.asarray(x)[well]).all() for x in jax.tree.leaves(solution.params))


BY_PARTS = "parts"  # the parts of a law, each by its own solver
BY_EVIDENCE = "evidence"  # ridge strengths and all else of a log-linear law
