"""Twenty runs as a lab logs them, and what a run table must hold of them: shared by the tests with real clients."""

import math

import numpy as np

DOMAINS = ("web", "code", "books")
SETS = ("web", "code")
STEPS = (100, 200, 300)


class Logged:
    """Runs r0 to r19 with a recipe each, three evaluations, and two metrics that are not finite at times."""

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.names = [f"r{i}" for i in range(20)]
        self.sizes = [int(rng.choice([30e6, 70e6, 160e6])) for _ in self.names]
        self.mixtures = [dict(zip(DOMAINS, map(float, rng.dirichlet(np.ones(3))), strict=True)) for _ in self.names]
        self.losses = rng.uniform(2, 4, (20, len(STEPS), len(SETS)))
        self.losses[3, 2, 0] = math.nan  # a set that was not measured at the end
        self.losses[4, 1, :] = math.nan  # an evaluation that failed
        self.losses[5, 2, 1] = math.inf

    def tokens(self, step):
        return step * 10_000_000

    def config(self, i):
        return {"model": {"n_params": self.sizes[i]}, "mixture": self.mixtures[i], "lr": 1e-3, "tags": ["a", "b"]}

    def evaluations(self, i):
        for s, step in enumerate(STEPS):
            yield step, {f"eval/{name}/loss": float(self.losses[i, s, v]) for v, name in enumerate(SETS)}

    def check(self, runs, rtol=0.0, checkpoints=True, names=None):
        """Every cell of a table against what was logged."""
        names = names or {name: name for name in self.names}
        assert sorted(runs.run_names) == sorted(names.values())
        assert set(runs.domains) == set(DOMAINS) and set(runs.sets) == set(SETS)
        rows = {
            (runs.run_names[k], int(t)): i for i, (k, t) in enumerate(zip(runs.run, runs.recipe.tokens, strict=True))
        }
        seen = 0
        for i, name in enumerate(self.names):
            if name not in names:
                continue
            kept = [s for s in range(len(STEPS)) if np.isfinite(self.losses[i, s]).any()]
            for s in kept if checkpoints else kept[-1:]:
                row = rows[names[name], self.tokens(STEPS[s])]
                seen += 1
                assert runs.recipe.n_active[row] == self.sizes[i]
                for k, domain in enumerate(runs.domains):
                    np.testing.assert_allclose(
                        runs.recipe.weights[row, k], self.mixtures[i][domain], rtol=max(rtol, 1e-12)
                    )
                for v, set_name in enumerate(SETS):
                    value = self.losses[i, s, v]
                    got = runs.losses[row, runs.sets.index(set_name)]
                    np.testing.assert_allclose(got, value if np.isfinite(value) else np.nan, rtol=rtol)
        assert seen == len(runs)
