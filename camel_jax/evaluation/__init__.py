"""Laws and baselines at a scale that was held out."""

from camel_jax.evaluation.leaderboard import leaderboard

__all__ = ["leaderboard"]
