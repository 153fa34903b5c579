"""A posterior over the parameters of a law, in numpyro."""

from typing import TYPE_CHECKING

import lazy_loader

from camel_jax.runtime import require

if TYPE_CHECKING:
    from camel_jax.bayes.posterior import Posterior
    from camel_jax.bayes.sampling import sample_posterior

require("bayes", "numpyro", "sampling a posterior")
__all__ = ["Posterior", "sample_posterior"]
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__, submod_attrs={"posterior": ["Posterior"], "sampling": ["sample_posterior"]}
)
