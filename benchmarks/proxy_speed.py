"""Tokens per second of a sweep against one run at a time, both in one go: python benchmarks/proxy_speed.py [--mixtures 20] [--runs 64].

The plain script is what one writes first: a process that trains one mixture after the other, with the mixture, the seed and the
schedule inside the jitted step, so that each mixture compiles its own, and a step a call. The sweep is camel_jax's, compilation
and start of its processes included. Both train the same recipes on the same text and evaluate at the end; the losses they reach are
compared. With --runs the sweep goes on with further seeds of the same mixtures, which the script, whose time is even, does not. Writes
benchmarks/results/proxy_speed_<device>.json. On a CPU it wants all cores idle.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
from make_proxy_table import ROOT, current_commit, make_mixtures

RESULTS = ROOT / "benchmarks" / "results"


def main() -> None:
    """Time both, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mixtures", type=int, default=20)
    parser.add_argument("--runs", type=int, default=0, help="runs of the sweep; by default one a mixture")
    parser.add_argument("--tokens", type=int, default=500_224)
    parser.add_argument("--size", type=int, default=0, help="rung of the ladder; 0 is the smallest")
    parser.add_argument("--plain", type=pathlib.Path, help=argparse.SUPPRESS)  # the plain script's own process
    args = parser.parse_args()
    if args.plain is not None:
        print(json.dumps(train_plainly(args)))
        return
    import jax

    from camel_jax.proxy.corpus import BUILT_IN, build_corpus, save_corpus
    from camel_jax.proxy.model import LADDER
    from camel_jax.proxy.sweep import describe_machine, sweep
    from camel_jax.proxy.train import Settings
    from camel_jax.recipes.recipe import Recipe

    commit, load = current_commit(), os.getloadavg()[0]
    corpus = build_corpus(BUILT_IN)
    weights = make_mixtures(corpus)[: args.mixtures]
    shape, first = LADDER[args.size], len(weights)
    count = max(args.runs, first)
    seeds, weights = [i // first for i in range(count)], weights[np.arange(count) % first]
    with tempfile.TemporaryDirectory() as folder:
        text = pathlib.Path(folder) / "text.npz"
        save_corpus(corpus, text)
        began = time.monotonic()
        command = [sys.executable, __file__, "--plain", str(text), "--mixtures", str(first)]
        command += ["--tokens", str(args.tokens), "--size", str(args.size)]
        out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        plain_seconds = time.monotonic() - began
        size = np.full(count, float(shape.n_active))
        recipe = Recipe(size, size, np.full(count, float(args.tokens)), weights)
        began = time.monotonic()
        names, rows = [f"m{i}" for i in range(count)], pathlib.Path(folder) / "rows"
        result = sweep(recipe, names, corpus, rows, seeds=seeds, settings=Settings())
        sweep_seconds = time.monotonic() - began
    tokens = float(np.sum(result.runs.recipe.tokens)) / count
    plain = np.array(json.loads(out.splitlines()[-1]))
    written = {
        "commit": commit,
        **describe_machine(),
        "load_before": load,
        "size": shape.n_active,
        "runs": count,
        "plain_runs": first,
        "tokens_per_run": tokens,
        "method": result.record["method"],
        "plain_seconds": round(plain_seconds, 2),
        "sweep_seconds": round(sweep_seconds, 2),
        "plain_tokens_per_second": round(tokens * first / plain_seconds),
        "sweep_tokens_per_second": round(tokens * count / sweep_seconds),
        "speed_up": round(plain_seconds / first / (sweep_seconds / count), 3),
        "largest_difference_of_mean_losses": float(
            np.abs(plain - np.asarray(result.runs.losses).mean(1)[:first]).max()
        ),
    }
    print(json.dumps(written, indent=1))
    name = "cpu" if jax.default_backend() == "cpu" else jax.devices()[0].device_kind.replace(" ", "_").lower()
    path = RESULTS / f"proxy_speed_{name}.json"
    path.write_text(json.dumps(written, indent=1) + "\n")


def train_plainly(args: argparse.Namespace) -> list[float]:
    """One mixture after the other, each with a step of its own; mean losses at the end."""
    import jax
    import jax.numpy as jnp
    import optax

    from camel_jax.proxy.corpus import load_corpus
    from camel_jax.proxy.model import LADDER, apply
    from camel_jax.proxy.train import (
        Settings,
        _evaluate,
        _optimizer,
        _rates,
        _schedule,
        first_state,
        place_text,
        sample,
    )

    corpus = load_corpus(args.plain)
    settings, shape = Settings().resolved(), LADDER[args.size]
    text = place_text(corpus, settings)
    total = settings.steps(args.tokens)
    dtype, means = jnp.dtype(settings.dtype), []
    evaluate = jax.jit(lambda params: _evaluate(shape, settings, params, text))
    for weights in make_mixtures(corpus)[: args.mixtures]:
        shares = jnp.asarray(weights, jnp.float32)
        state = first_state(shape, jnp.int32(0))
        params, moments = state.params, state.moments
        rates, optimizer = _rates(shape, params), _optimizer()

        @jax.jit
        def step(params, moments, i, shares=shares, rates=rates, optimizer=optimizer):
            def loss_of(params, sequences):
                logits, _ = apply(shape, params, sequences[:, :-1], dtype, drop=True)
                targets = sequences[:, 1:].astype(jnp.int32)
                return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, targets))

            sequences = sample(text, settings, shares, jnp.int32(0), i)
            loss, slopes = jax.value_and_grad(loss_of)(params, sequences)
            moves, moments = optimizer.update(slopes, moments)
            rate = settings.rate * _schedule(i, jnp.int32(total), settings)
            return jax.tree.map(lambda p, m, r: p - (rate * r) * m, params, moves, rates), moments, loss

        for i in range(total):
            params, moments, _ = step(params, moments, jnp.int32(i))
        means.append(float(np.mean(evaluate(params).losses)))
    return means


if __name__ == "__main__":
    main()
