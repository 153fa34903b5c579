"""A study that is kept: ask for runs, tell their results, take its recommendation."""

from camel_jax.study.proposal import Proposal
from camel_jax.study.recommend import Recommendation
from camel_jax.study.store import StudyError
from camel_jax.study.study import Study

__all__ = ["Proposal", "Recommendation", "Study", "StudyError"]
