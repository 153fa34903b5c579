"""What people fit many small laws with: MINPACK, L-BFGS-B, Optimistix, torch, and a batched Levenberg-Marquardt in numpy."""

from __future__ import annotations

import time

import numpy as np

_table: tuple = ()


def set_table(shares: np.ndarray, log_size: np.ndarray, log_losses: np.ndarray) -> None:
    global _table
    _table = (np.ascontiguousarray(shares), np.ascontiguousarray(shares.T), log_size, log_losses)


def _parts(x):
    shares, _, log_size, _ = _table
    k = shares.shape[1]
    exponent = np.exp(x[k + 2])
    return np.exp(x[0]), np.exp(x[1] + shares @ x[2 : k + 2]), exponent, np.exp(x[k + 3] - exponent * log_size)


def _residual(x, log_losses, root):
    floor, mixture, _, size = _parts(x)
    return (np.log(floor + mixture + size) - log_losses) * root


def _jacobian(x, log_losses, root):
    _, columns, log_size, _ = _table
    floor, mixture, exponent, size = _parts(x)
    scale = root / (floor + mixture + size)
    out = np.empty((len(x), len(root)))
    out[0] = floor * scale
    out[1] = mixture = mixture * scale
    np.multiply(columns, mixture, out=out[2:-2])
    out[-1] = size = size * scale
    out[-2] = (-exponent) * size * log_size
    return out


def minpack(job):
    """Objectives of a list of fits by MINPACK's lm, analytic Jacobian."""
    from scipy.optimize import leastsq

    starts, sets, weights, rtol = job
    out = np.empty(len(starts))
    with np.errstate(all="ignore"):
        for i, (x, v, w) in enumerate(zip(starts, sets, weights, strict=True)):
            args = (np.ascontiguousarray(_table[3][:, v]), np.sqrt(w.astype(float)))
            best = leastsq(
                _residual,
                x,
                args,
                _jacobian,
                full_output=True,
                col_deriv=True,
                ftol=rtol,
                xtol=1e-12,
                gtol=0.0,
                maxfev=1000,
            )
            out[i] = 0.5 * np.sum(best[2]["fvec"] ** 2)
    return out


def numpy_batched(starts, sets, weights, rtol, max_steps=200):
    """A plain batched Levenberg-Marquardt in numpy: einsum, numpy.linalg.solve, finished lanes dropped."""
    shares, _, log_size, log_losses = _table
    x, w, y = starts.copy(), weights.astype(float), log_losses.T[sets]

    def evaluate(x, w, y):
        e = np.exp(x[:, :1])
        m = np.exp(x[:, 1:2] + x[:, 2:-2] @ shares.T)
        a = np.exp(x[:, -2:-1])
        s = np.exp(x[:, -1:] - a * log_size)
        total = e + m + s
        r = np.log(total) - y
        jac = np.stack([e + 0 * m, m, *(m * shares[:, k] for k in range(shares.shape[1])), -a * s * log_size, s], 1)
        jac /= total[:, None]
        jw = jac * w[:, None]
        return 0.5 * np.sum(w * r * r, 1), jw @ jac.transpose(0, 2, 1), np.sum(jw * r[:, None], 2)

    with np.errstate(all="ignore"):
        cost, h, g = evaluate(x, w, y)
        lam, final, live = np.full(len(x), 1e-2), cost.copy(), np.arange(len(x))
        index = np.arange(x.shape[1])
        for _ in range(max_steps):
            damped = h.copy()
            scale = np.maximum(h[:, index, index], 1e-300)
            damped[:, index, index] += lam[:, None] * scale + 1e-14
            move = -np.linalg.solve(np.where(np.isfinite(damped), damped, 0) + 0.0, g[..., None])[..., 0]
            promised = 0.5 * np.sum(move * (lam[:, None] * scale * move - g), 1)
            new_cost, new_h, new_g = evaluate(x + move, w, y)
            ok = new_cost < cost
            gain = cost - new_cost
            done = (np.abs(gain) <= rtol * cost) & (promised <= rtol * cost)
            x[ok] += move[ok]
            h[ok], g[ok] = new_h[ok], new_g[ok]
            cost = np.where(ok, new_cost, cost)
            lam = np.where(ok, lam * np.maximum(1 / 3, 1 - (2 * np.minimum(gain / promised, 1) - 1) ** 3), lam * 4)
            final[live] = cost
            keep = ~done & (lam < 1e20)
            if not keep.any():
                break
            x, h, g, cost, lam, live, w, y = (a[keep] for a in (x, h, g, cost, lam, live, w, y))
    return final


def jax_residuals(shares, log_size):
    import jax
    import jax.numpy as jnp

    k = shares.shape[1]

    def residuals(x, log_losses, root):
        m = jnp.exp(x[1] + shares @ x[2 : k + 2])
        value = jnp.exp(x[0]) + m + jnp.exp(x[k + 3] - jnp.exp(x[k + 2]) * log_size)
        return (jnp.log(value) - log_losses) * root

    return jax, jnp, residuals


def lbfgsb(starts, sets, weights, rtol, table):
    """scipy L-BFGS-B with a jitted JAX gradient, one fit after the other."""
    from scipy.optimize import minimize

    shares, log_size, log_losses = table
    jax, jnp, residuals = jax_residuals(shares, log_size)
    both = jax.jit(jax.value_and_grad(lambda x, y, root: 0.5 * jnp.sum(residuals(x, y, root) ** 2)))
    both(starts[0], log_losses[:, 0], np.ones(len(log_size)))
    begin, out = time.perf_counter(), np.empty(len(starts))
    for i, (x, v, w) in enumerate(zip(starts, sets, weights, strict=True)):
        args = (log_losses[:, v], np.sqrt(w.astype(float)))
        found = minimize(
            both, x, args, jac=True, method="L-BFGS-B", options={"maxiter": 5000, "ftol": rtol * 1e-3, "gtol": 1e-9}
        )
        out[i] = found.fun
    return out, time.perf_counter() - begin


def optimistix_vmap(starts, sets, weights, rtol, table, compiled={}):  # noqa: B006
    """Optimistix LevenbergMarquardt under vmap."""
    import optimistix as optx

    shares, log_size, log_losses = table
    jax, jnp, residuals = jax_residuals(shares, log_size)
    solver = optx.LevenbergMarquardt(rtol=rtol, atol=1e-12)

    def one(x, y, root):
        found = optx.least_squares(lambda x, a: residuals(x, *a), solver, x, (y, root), max_steps=1000, throw=False)
        return 0.5 * jnp.sum(residuals(found.value, y, root) ** 2)

    run = compiled.setdefault(rtol, jax.jit(jax.vmap(one)))
    args = (jnp.asarray(starts), jnp.asarray(log_losses.T[sets]), jnp.sqrt(weights.astype(float)))
    if "warm" not in compiled:
        jax.block_until_ready(run(*args))
        compiled["warm"] = True
    begin = time.perf_counter()
    out = np.asarray(run(*args))
    return out, time.perf_counter() - begin


def torch_lbfgs(starts, sets, weights, rtol, table):
    """torch.optim.LBFGS with a strong Wolfe line search, one fit after the other, one thread."""
    import torch

    torch.set_num_threads(1)
    shares, log_size, log_losses = (torch.tensor(a, dtype=torch.float64) for a in table)
    begin, out = time.perf_counter(), np.empty(len(starts))
    for i, (x0, v, w) in enumerate(zip(starts, sets, weights, strict=True)):
        x = torch.tensor(x0, dtype=torch.float64, requires_grad=True)
        root = torch.sqrt(torch.tensor(w, dtype=torch.float64))
        optimizer = torch.optim.LBFGS(
            [x],
            max_iter=1000,
            tolerance_grad=1e-9,
            tolerance_change=rtol * 1e-4,
            history_size=20,
            line_search_fn="strong_wolfe",
        )

        def closure(x=x, root=root, optimizer=optimizer, v=v):
            optimizer.zero_grad()
            value = (
                torch.exp(x[0]) + torch.exp(x[1] + shares @ x[2:-2]) + torch.exp(x[-1] - torch.exp(x[-2]) * log_size)
            )
            loss = 0.5 * torch.sum(((torch.log(value) - log_losses[:, v]) * root) ** 2)
            loss.backward()
            return loss

        optimizer.step(closure)
        out[i] = closure().item()
    return out, time.perf_counter() - begin


RIVALS = {
    "scipy L-BFGS-B, jitted gradient": lbfgsb,
    "Optimistix LM, vmap": optimistix_vmap,
    "torch L-BFGS": torch_lbfgs,
}


def set_table_in_worker(table):
    set_table(*table)
    time.sleep(0.02)  # so that every worker takes its share of these calls
