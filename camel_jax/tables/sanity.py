"""What looks wrong in a table that breaks no rule of the schema: asked before a fit, told with the evidence, never corrected."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from camel_jax.tables.finding import Finding, named_rows
from camel_jax.tables.runs import Runs, mixture_ids
from camel_jax.tables.smooth import EARLY, Surface, basis, neighbourhood, regress, surface
from camel_jax.tables.trends import rising, shifted, shuffled

SWAPPED = 0.3  # median tokens a parameter of no study
SMALLEST, FEWEST = 1e3, 1e4  # parameters and tokens: less is in another unit
HIGHEST = 12.0  # nats a token: a guess among 160,000 tokens
RUNS_PER_DIRECTION = 3
OUTLYING, FOLD, SCATTER = (
    8.0,
    1.35,
    5.0,
)  # a row: times the usual residual, fold of its loss, times its neighbours' scatter
REPEATED = np.log(8.0)  # epochs from which neighbours say nothing
OWN_MIXTURE = 0.8  # of the odd rows whose nearest mixture is odd, too: then it is the mixture
BETTER, CLEAR = 0.25, 10.0  # residuals with the other unit over those without, and the jump between units over them
UNITS = ((1e3, "thousands"), (1e6, "millions"), (1e9, "billions"))


def check_sanity(runs: Runs) -> tuple[Finding, ...]:
    """What looks wrong in a table, with the evidence; empty for a table that looks like training runs.

    Swapped or mixed units, perplexities and bits among nats, repeated runs, losses that rise, mixtures or sizes that explain nothing,
    a size that is off the others, outlying rows, early and diverged runs, constant sets, too few runs. Multiples of the median
    residual and permutations decide, so that a table is compared with itself. Never raises, and costs less than a fit by far.

    >>> import jax
    >>> from camel_jax.evaluation import simulate
    >>> from camel_jax.tables.runs import select
    >>> runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=8)
    >>> check_sanity(runs)
    ()
    >>> [found.kind for found in check_sanity(select(runs, runs.run < 6))]
    ['few']
    """
    losses = np.asarray(runs.losses, float)
    if losses.ndim != 2 or not losses.size or not np.isfinite(losses).any():
        return ()
    quiet, alone = (
        warnings.catch_warnings(),
        threadpool_limits(1, user_api="blas"),
    )  # threads only wait for each other here
    with np.errstate(all="ignore"), quiet, alone:
        warnings.simplefilter("ignore", RuntimeWarning)  # medians of rows where nothing was measured
        s = surface(runs)
        last = s.rows(s.final)
        found = [*_counts(runs, s), *_constant(runs, s), *_repeated(runs, s)]
        if len(last.run) >= 8:
            mixed = [*_mixed_counts(runs, s), *_mixed_losses(runs, s)]
            found += mixed
            found += [*shuffled(runs, last), *rising(runs, s, last), *shifted(runs, s, last)]
            found += _outlying(runs, s)
    return tuple(found)


def left_out(runs: Runs, found: tuple[Finding, ...]) -> np.ndarray:
    """Which losses (R, V) are so far off that no residual of a law should be learnt from them: the outlying ones among ``found``."""
    mask = np.zeros(np.shape(runs.losses), bool)
    for one in found:
        if one.kind in ("outlier", "diverged"):
            sets = [i for i, name in enumerate(runs.sets) if one.column in ("", f"loss/{name}")]
            mask[np.ix_(one.rows, sets)] = True
    return mask


def as_notes(found: tuple[Finding, ...], most: int = 3) -> tuple[str, ...]:
    """Findings as sentences, at most so many of a kind."""
    notes = []
    for kind in dict.fromkeys(one.kind for one in found):
        alike = [one for one in found if one.kind == kind]
        notes += [f"{one} [{kind}]" for one in alike[:most]]
        if len(alike) > most:
            notes[-1] += f", and {len(alike) - most} more of the kind"
    return tuple(notes)


def _counts(runs: Runs, s: Surface) -> list[Finding]:
    """Sizes and tokens by themselves, and how many runs there are."""
    size, tokens = (np.asarray(x, float) for x in (runs.recipe.n_active, runs.recipe.tokens))
    each = tokens / size
    found, middle = [], float(np.median(each))
    if middle < SWAPPED:
        text = (
            f"the median row has {middle:.2g} tokens a parameter: are sizes and tokens swapped, or tokens in thousands?"
        )
        found.append(Finding("swapped", "tokens", tuple(range(len(each))), text))
    for name, values, least in (("size", size, SMALLEST), ("tokens", tokens, FEWEST)):
        if (low := np.flatnonzero(values < least)).size:
            text = (
                f"{len(low)} of {len(values)} rows have fewer than {least:g}, as {values[low[0]]:g} at "
                f"{named_rows(runs, low[:1])}: write raw counts, or 70M and 2B"
            )
            found.append(Finding("units", name, tuple(low.tolist()), text))
    short = np.flatnonzero(s.final & (each < EARLY * (1 - 1e-6)))
    if short.size and middle >= SWAPPED:
        text = (
            f"{len(short)} of {s.final.sum()} runs end below {EARLY:g} tokens a parameter, where no law "
            f"holds ({named_rows(runs, short, 1)} has {each[short[0]]:.2g})"
        )
        found.append(Finding("early", "tokens", tuple(short.tolist()), text))
    count = len(np.unique(s.run))
    directions = 1 + sum(np.ptp(x) > 1e-6 for x in (s.size, s.tokens))
    directions += int(np.linalg.matrix_rank(s.roots, tol=1e-3 * len(s.roots) ** 0.5)) if s.roots.size else 0
    if count < RUNS_PER_DIRECTION * directions:
        text = (
            f"{count} runs for {directions} directions in size, tokens and mixture: fewer than {RUNS_PER_DIRECTION} "
            "runs each, so intervals rest on the priors"
        )
        found.append(Finding("few", "", (), text))
    return found


def _constant(runs: Runs, s: Surface) -> list[Finding]:
    """Sets that never move, and sets that cannot be nats a token."""
    found = []
    for name, y in zip(runs.sets, s.losses.T, strict=True):
        rows = np.flatnonzero(np.isfinite(y))
        if len(rows) < 3:
            continue
        values, times = np.unique(y[rows].round(9), return_counts=True)
        if (most := times.max()) >= max(3, 0.3 * len(rows)) and len(np.unique(s.size)) + len(np.unique(s.tokens)) > 2:
            text = f"{most} of {len(rows)} losses are {np.exp(values[times.argmax()]):.6g}: is it a constant?"
            found.append(Finding("constant", f"loss/{name}", tuple(rows.tolist()), text))
        if (middle := float(np.exp(np.median(y[rows])))) > HIGHEST:
            text = f"the median is {middle:.3g}, more nats a token than a guess costs: is it a perplexity?"
            found.append(Finding("losses", f"loss/{name}", tuple(rows.tolist()), text))
    return found


def _repeated(runs: Runs, s: Surface) -> list[Finding]:
    """The same losses, to the last digit, under other run ids."""
    filled = np.where(np.isfinite(s.losses), s.losses, 0.0).round(9)
    where = np.column_stack([s.size, s.tokens, mixture_ids(runs)]).round(6)
    found = []
    _, losses_of = np.unique(filled, axis=0, return_inverse=True)
    _, place_of = np.unique(np.column_stack([losses_of.ravel(), where]), axis=0, return_inverse=True)
    again, elsewhere = [], []
    for group, alike in ((place_of.ravel(), again), (losses_of.ravel(), elsewhere)):
        first: dict[int, int] = {}
        for i, g in enumerate(group):
            j = first.setdefault(int(g), i)
            if s.run[j] != s.run[i] and np.isfinite(s.losses[i]).any():
                alike.append((j, i))
    if again:
        pair = named_rows(runs, np.array(again[0]))
        text = (
            f"{len(again)} rows repeat the losses of another run of the same size, tokens and mixture "
            f"({pair}): one run under two ids counts twice"
        )
        found.append(Finding("duplicate", "run", tuple(i for _, i in again), text))
    elsewhere = [p for p in elsewhere if p not in set(again)]
    if elsewhere and np.isfinite(s.losses).sum(1).min() >= 3:
        pair = named_rows(runs, np.array(elsewhere[0]))
        text = f"{len(elsewhere)} rows have, in every set, the very losses of a run with another recipe ({pair})"
        found.append(Finding("duplicate", "loss/*", tuple(i for _, i in elsewhere), text))
    return found


def _mean_loss(s: Surface) -> np.ndarray:
    """Log loss over all measured sets, (R, 1), each set about its own middle."""
    apart = s.losses - np.nanmedian(s.losses, axis=0)
    return np.nanmean(apart, axis=1)[:, None]


def _two_kinds(x: tuple[np.ndarray, np.ndarray], y: tuple[np.ndarray, np.ndarray], starts: list[np.ndarray]) -> Any:
    """Which rows are of the second kind, (R,), where columns and losses of both kinds are given, and the residuals' scale then."""
    best = (np.inf, starts[0])
    for second in starts:
        scale = np.inf
        for _ in range(5):
            coefficients, spread = regress(
                np.where(second[:, None], x[1], x[0]), np.where(second, y[1], y[0])[:, None], 4
            )
            scale = float(spread[0])
            one, two = (np.abs(b - a @ coefficients[:, 0]) for a, b in zip(x, y, strict=True))
            changed, second = second, two < one
            if np.array_equal(changed, second):
                break
        if max(3, 0.03 * len(second)) <= second.sum() <= len(second) - 3 and scale < best[0]:
            best = (scale, second)
    return best


def _cuts(values: np.ndarray) -> list[np.ndarray]:
    """Two ways of cutting rows in two: at the middle, and at the widest gap but for the ends."""
    order = np.sort(values)
    few = max(1, len(order) // 25)
    gaps = np.diff(order[few:-few])
    cuts = [float(np.median(order))]
    if gaps.size:
        at = int(gaps.argmax()) + few
        cuts.append(float(order[at] + order[at + 1]) / 2)
    return [values < cut for cut in cuts]


def _mixed_counts(runs: Runs, s: Surface) -> list[Finding]:
    """Sizes or tokens of which some are in another unit: the losses know nothing of the jump."""
    found, y = [], _mean_loss(s)[:, 0]
    rows = np.flatnonzero(np.isfinite(y))
    y, some = y[rows], s.rows(rows)
    plain = np.column_stack([np.ones(len(y)), some.size, some.tokens, some.roots])
    usual = regress(plain, y[:, None], 4)[1][0]
    for place, name in ((1, "size"), (2, "tokens")):
        tried = []
        for factor, word in UNITS:
            if np.ptp(plain[:, place]) > 0.9 * np.log(factor):
                other = plain.copy()
                other[:, place] += np.log(factor)
                tried.append((*_two_kinds((plain, other), (y, y), _cuts(plain[:, place])), word))
        if tried and (best := min(tried, key=lambda one: one[0]))[0] < BETTER * usual:
            low = rows[best[1]]
            text = (
                f"{len(low)} of {len(rows)} rows fit the others {usual / best[0]:.2g} times as well if "
                f"they are in {best[2]} ({named_rows(runs, low, 1)}): are the units mixed?"
            )
            found.append(Finding("units", name, tuple(low.tolist()), text))
    return found


def _mixed_losses(runs: Runs, s: Surface) -> list[Finding]:
    """Sets of which some rows are perplexities or bits."""
    found = []
    x = basis(s, max(len(np.unique(s.run)) // 4, 2))
    coefficients, scale = regress(x, s.losses, 4)
    for v, name in enumerate(runs.sets):
        y = s.losses[:, v]
        rows = np.flatnonzero(np.isfinite(y))
        if len(rows) < 8:
            continue
        left, own = y[rows] - x[rows] @ coefficients[:, v], x[rows]
        if np.sum(np.abs(left) > 0.12) < max(3, 0.03 * len(rows)):
            continue
        tried = []
        for other, word in (
            (y[rows] + np.log(np.log(2.0)), "bits"),
            (np.log(np.maximum(y[rows], 1e-3)), "perplexities"),
        ):
            tried.append((*_two_kinds((own, own), (y[rows], other), [~cut for cut in _cuts(left)]), word))
        best = min(tried, key=lambda one: one[0])
        jump = np.log(1.0 / np.log(2.0)) if best[2] == "bits" else float(np.median(np.abs(y[rows])))
        if best[0] < BETTER * scale[v] and best[0] < jump / CLEAR and not _of_mixtures(s.rows(rows), best[1]):
            odd = rows[best[1]]
            text = (
                f"{len(odd)} of {len(rows)} rows fit the others {scale[v] / best[0]:.2g} times as well "
                f"if they are {best[2]} ({named_rows(runs, odd, 1)}): write nats a token"
            )
            found.append(Finding("losses", f"loss/{name}", tuple(odd.tolist()), text))
    return found


def _of_mixtures(s: Surface, odd: np.ndarray) -> bool:
    """Whether odd rows are those of some mixtures: most have the nearest mixture of other runs in common."""
    few = np.flatnonzero(odd)[:: max(1, int(odd.sum()) // 300)]
    if np.ptp(s.roots) < 1e-6:
        return False
    apart = (s.roots[few] ** 2).sum(1)[:, None] + (s.roots**2).sum(1) - 2 * s.roots[few] @ s.roots.T
    apart = np.where(s.run[few, None] == s.run, np.inf, apart)
    ties = apart <= apart.min(1, keepdims=True) + 1e-9
    return bool(np.mean((ties & odd).sum(1) / ties.sum(1)) > OWN_MIXTURE)


def _outlying(runs: Runs, s: Surface) -> list[Finding]:
    """Rows whose losses are far from what their neighbours say: in one set, or in most."""
    near = neighbourhood(s)
    alone = np.where(s.early, 4.0, 1.0)[:, None] * near.alone[:, None]
    least = np.maximum(np.log(FOLD) * np.sqrt(alone), OUTLYING * near.scale * alone)
    odd = (np.abs(near.away) > least) & (np.abs(near.away) > SCATTER * near.near) & (s.epochs < REPEATED)[:, None]
    size = np.abs(near.away) / near.scale
    at: dict[tuple[str, str], list[tuple[int, int, int]]] = {}
    for i in np.flatnonzero(odd.any(1)):
        sets = np.flatnonzero(odd[i])
        if len(sets) > max(1, 0.5 * np.isfinite(s.losses[i]).sum()):  # the row, not a cell
            kind = "diverged" if np.median(near.away[i, sets]) > 0 else "outlier"
            at.setdefault((kind, ""), []).append((int(i), int(sets[size[i, sets].argmax()]), len(sets)))
        else:
            for v in sets:
                at.setdefault(("outlier", f"loss/{runs.sets[v]}"), []).append((int(i), int(v), 1))
    found = []
    for (kind, column), cells in at.items():
        i, v, sets = max(cells, key=lambda cell: size[cell[0], cell[1]])
        fold, rest = np.exp(near.away[i, v]), np.exp(s.losses[i, v] - near.away[i, v])
        loss = "" if column else f"loss/{runs.sets[v]} "
        text = (
            f"{loss}{np.exp(s.losses[i, v]):.4g} of {named_rows(runs, i)} is {fold:.3g} times the {rest:.4g} "
            f"that its neighbours say ({size[i, v]:.0f} times the usual distance)"
        )
        text += f", and {sets - 1} other sets of it are off" if sets > 1 else ""
        text += f"; so are {len(cells) - 1} other rows" if len(cells) > 1 else ""
        found.append(
            Finding(
                kind, column, tuple(cell[0] for cell in cells), text + "; the residual field and the noise leave it out"
            )
        )
    return found
