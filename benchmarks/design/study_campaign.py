"""Ask and tell against one batch of runs: FLOPs that each needs for the same regret, on planted laws.

    python benchmarks/design/study_campaign.py [--families dml,sodm_joint] [--repetitions 20] [--seconds 540]

Four domains and sets; sizes 10M, 30M, 100M on 20 tokens a parameter; the target has 1B parameters and 20B tokens. A batch of 8, 16
or 32 runs (F8, F16, F32 FLOPs) spreads mixtures as far apart as it can and runs over the sizes evenly. A study spends its FLOPs in
asks, after which it has used the shares ``SPENT`` of F8, of at most 32 runs each. Both fit the same law, the family of the planted
one, and take the best of 4096 mixtures by it; regret is what that mixture's planted mean loss is above the best one's, in nats.
  share   for every repetition and batch, the FLOPs of the study when its regret is first no more than the batch's, over the batch's
  half    the study's regret at half of the batch's FLOPs minus the batch's regret
A control shows what the choice of small sizes alone would do: one batch of 32 spread mixtures, 24 runs of 10M and 8 of 30M
parameters (0.42 of F8), beside the study's regret when it has used no more FLOPs than that.
Medians have 90 % intervals by bootstrap over repetitions. One JSON, written after every repetition; the same command continues.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import tempfile
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from common.provenance import RESULTS, provenance
from common.results import continued, write

RESULT = RESULTS / "study_campaign.json"
DOMAINS = ("web", "code", "books", "math")
LADDER, SIZES, TARGET = ("10M", "30M", "100M"), (1e7, 3e7, 1e8), (1e9, 2e10)
BATCHES, SPENT = (8, 16, 32), (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
SMALL = (1e7, 1e7, 1e7, 3e7) * 8
NOISE, CHOICES = 0.003, 4096
SETTINGS = {
    "batches": list(BATCHES),
    "spent": list(SPENT),
    "noise": NOISE,
    "domains": len(DOMAINS),
    "ladder": list(LADDER),
}


class Planted:
    """A planted law of a family: losses (V,) of a recipe, and the noise of a run by its name."""

    def __init__(self, family: str, seed: int):
        rng = np.random.default_rng([seed, len(family)])
        k = len(DOMAINS)
        own = np.eye(k)
        self.family, self.seed = family, seed
        self.floor, self.a, self.b = rng.uniform(1.0, 1.6, k), rng.uniform(0.25, 0.35, k), rng.uniform(0.25, 0.35, k)
        self.size, self.data = rng.uniform(20, 60, k), rng.uniform(60, 200, k)
        self.scale = rng.uniform(0.3, 0.8, k)
        self.teaches = own * rng.uniform(1.5, 4.0, k) + (1 - own) * rng.uniform(0.0, 0.8, (k, k))
        self.power = rng.uniform(0.3, 0.7, (k, k))
        self.at_size, self.at_data = (own * rng.uniform(0.5, 1.5, k) + rng.uniform(0.3, 0.6, (k, k)) for _ in range(2))

    def losses(self, w, n: float, d: float) -> np.ndarray:
        """Losses (..., V) of mixtures (..., K) at a size and token count."""
        w = np.asarray(w, float)[..., None, :]
        size, data = self.size * n**-self.a, self.data * d**-self.b
        if self.family == "dml":
            return self.floor + self.scale * np.exp(-(self.teaches * w).sum(-1)) + size + data
        mixed = 1.0 / (self.teaches * 2.0 * w**self.power).sum(-1)
        spread = ((self.at_size * w).sum(-1) ** -0.5, (self.at_data * w).sum(-1) ** -0.5)
        return self.floor + mixed + spread[0] * size + spread[1] * data

    def measured(self, name: str, w, n: float, d: float) -> np.ndarray:
        """Losses with the noise of a run of this name."""
        rng = np.random.default_rng([self.seed, *name.encode()])
        return self.losses(w, n, d) * np.exp(NOISE * rng.standard_normal(len(DOMAINS)))

    def regret(self, fitted) -> float:
        """Nats of the mixture that a fit calls best above the best one."""
        from camel_jax.recipes.recipe import Recipe

        choices = np.random.default_rng(self.seed).dirichlet(np.ones(len(DOMAINS)), CHOICES)
        full = np.full(CHOICES, 1.0)
        said = np.asarray(fitted.predict(Recipe(TARGET[0] * full, TARGET[0] * full, TARGET[1] * full, choices))).mean(1)
        true = self.losses(choices, *TARGET).mean(-1)
        return float(true[said.argmin()] - true.min())


def spread(count: int, seed: int) -> np.ndarray:
    """Mixtures (count, K), each as far as it can be from those before it."""
    pool = np.random.default_rng([seed, 1]).dirichlet(np.ones(len(DOMAINS)), 2000)
    chosen = [int(np.abs(pool - 1 / len(DOMAINS)).sum(1).argmin())]
    while len(chosen) < count:
        chosen.append(int(np.min([np.linalg.norm(pool - pool[i], axis=1) for i in chosen], axis=0).argmax()))
    return pool[chosen]


def batch_sizes(count: int) -> np.ndarray:
    """Sizes of the runs of a batch, the same number of each, the smallest first where they do not come out even."""
    return np.asarray(SIZES)[np.arange(count) % len(SIZES)]


def cost(sizes) -> float:
    """FLOPs of runs."""
    return float(np.sum(6 * np.asarray(sizes) * 20 * np.asarray(sizes)))


def one_batch(planted: Planted, settings, sizes) -> float:
    """The regret after one batch of runs of these sizes (runs,) that fills the space of mixtures."""
    from camel_jax.recipes.recipe import Recipe
    from camel_jax.study.ask import fit_table
    from camel_jax.tables.runs import Runs

    count, sizes = len(sizes), np.asarray(sizes)
    mixtures = spread(count, planted.seed)
    names = tuple(f"batch-{i}" for i in range(count))
    losses = [planted.measured(*row) for row in zip(names, mixtures, sizes, 20 * sizes, strict=True)]
    recipe = Recipe(sizes, sizes, 20 * sizes, mixtures)
    table = Runs(recipe, np.array(losses), np.zeros((count, 0)), np.arange(count), DOMAINS, DOMAINS, (), names)
    return planted.regret(fit_table(settings, table))


def one_study(planted: Planted, study) -> list[dict[str, float]]:
    """FLOPs, runs and regret of a study after every ask; the regret is infinite while its runs are too few to fit."""
    from camel_jax.fitting.identifiability import FitError
    from camel_jax.study.ask import fit_table

    used, out = 0.0, []
    for share in SPENT:
        proposal = study.ask(share * cost(batch_sizes(8)) - used, max_runs=32)
        used += proposal.total_cost
        for run in proposal.runs:
            losses = planted.measured(run.run, run.weights, run.n_active, run.tokens)
            study.tell(run.run, dict(zip(DOMAINS, losses.tolist(), strict=True)))
        try:
            regret = planted.regret(fit_table(study.settings, study.runs()))
        except FitError:
            regret = float("inf")
        out.append({"flops": used, "runs": len(study.runs().run_names), "regret": regret})
    return out


def repetition(family: str, seed: int) -> dict:
    """One planted law: a study, a batch of every count of runs, and a batch of small runs."""
    import camel_jax as cj

    planted = Planted(family, seed)
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder) / "study.db"
        study = cj.Study(place, domains=DOMAINS, target=TARGET, ladder=LADDER, law=family, seed=seed)
        told = one_study(planted, study)
        batches = {str(n): one_batch(planted, study.settings, batch_sizes(n)) for n in BATCHES}
        small = one_batch(planted, study.settings, SMALL)
    return {"family": family, "seed": seed, "study": told, "batches": batches, "small": small}


def compare(rows: list[dict]) -> dict[str, dict]:
    """For every batch: shares of its FLOPs that the study needs, and the study's regret at half of them less the batch's."""
    out = {}
    for n in BATCHES:
        flops, shares, halves = cost(batch_sizes(n)), [], []
        for row in rows:
            goal = row["batches"][str(n)]
            reached = [one["flops"] for one in row["study"] if one["regret"] <= goal]
            shares.append(reached[0] / flops if reached else np.inf)
            before = [one["regret"] for one in row["study"] if one["flops"] <= 0.5 * flops]
            halves.append(before[-1] - goal)
        regrets = [row["batches"][str(n)] for row in rows]
        out[str(n)] = {
            "share": median(shares),
            "within_half": float(np.mean(np.asarray(shares) <= 0.5)),
            "half": median(halves),
            "batch_regret": median(regrets),
        }
    control = [row["small"] for row in rows]
    asked = [[one["regret"] for one in row["study"] if one["flops"] <= cost(SMALL)][-1] for row in rows]
    out["small"] = {
        "regret": median(control),
        "study_regret": median(asked),
        "less": median(np.subtract(asked, control)),
    }
    return out


def median(values) -> list[float]:
    """Median with its 90 % interval over repetitions."""
    values = np.asarray(values, float)
    drawn = np.random.default_rng(0).integers(0, len(values), (4000, len(values)))
    with np.errstate(invalid="ignore"):
        found = np.sort(values[drawn], 1)[
            :, (len(values) - 1) // 2
        ]  # the lower one of two, so that infinities do not mix
    return [float(np.sort(values)[(len(values) - 1) // 2]), *(float(np.sort(found)[i]) for i in (200, 3800))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", default="dml,sodm_joint")
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--out", type=pathlib.Path, default=RESULT)
    given = parser.parse_args()
    began = time.monotonic()
    from camel_jax.runtime import start_engine

    start_engine()
    head = provenance("camel_jax.study.study") | {"settings": SETTINGS}
    result = continued(given.out, head, {"rows": []})
    for seed in range(given.repetitions):
        for family in given.families.split(","):
            if any((row["family"], row["seed"]) == (family, seed) for row in result["rows"]):
                continue
            if time.monotonic() - began > given.seconds:
                print("stopped; the same command continues")
                return
            result["rows"].append(repetition(family, seed))
            done = {f: [row for row in result["rows"] if row["family"] == f] for f in given.families.split(",")}
            result["summary"] = {f: {"repetitions": len(rows), **compare(rows)} for f, rows in done.items() if rows}
            write(given.out, result)
            print(f"{family} {seed}: {time.monotonic() - began:.0f} s", flush=True)
    for family, told in result["summary"].items():
        print(family, told)


if __name__ == "__main__":
    main()
