"""A user's script as type checkers read it; ``tests/test_types.py`` says what they must make of it. It is never run."""

from typing import reveal_type

import jax

import camel_jax as cj

runs = cj.read_runs("runs.csv")
reveal_type(runs)
fitted = cj.fit(cj.laws.camel(skills=4), runs, key=jax.random.key(0), resamples=8)
reveal_type(fitted)
reveal_type(fitted.losses_at("7B", "1T"))
best = cj.optimize_mixture(fitted.losses_at("7B", "1T"), bounds={"web": (0.1, None)})
reveal_type(best)
reveal_type(best.probability_better)
study = cj.Study("study.db", domains=["web", "code"], target=("7B", "1T"), ladder=["30M", "100M"], max_domains=2)
reveal_type(study.ask(1e19))
reveal_type(study.tell("next-001-30M", {"web": 3.0}))
reveal_type(study.recommend().go_on)
reveal_type(study.runs())
reveal_type(cj.leaderboard({"mine": runs}, ["dml"], key=jax.random.key(0)))
cj.fit(runs)  # a law is missing, and a key
cj.Study("study.db", domians=["web", "code"])  # a name that is misspelt
