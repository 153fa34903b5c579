"""Array types: one alias, and the shapes behind the letters of the laws, which tests check at every call.

======  =====================================
letter  axis
======  =====================================
R       rows of a table, one a checkpoint
K       training domains
V       validation sets
T       benchmark tasks
S       latent skills
M       draws
P       parameters, or points of a front
======  =====================================
"""

from typing import Any, TypeAlias

import jax
import numpy as np
from jaxtyping import Float

Array: TypeAlias = Any  # an array of jax or numpy, a traced one, or a number where one may stand for an array
_Real = jax.Array | np.ndarray

PerDomain = Float[_Real, " K"]
PerSet = Float[_Real, " V"]
PerSkill = Float[_Real, " S"]
DrawsPerSet = Float[_Real, "M V"]
RowsPerSet = Float[_Real, "R V"]
