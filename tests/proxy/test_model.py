"""The tiny models: sizes as declared, experts against a loop over tokens, nothing seen of the future."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from tiny_models import TINY

from camel_jax.proxy.model import LADDER, SPARSITIES, Block, apply, count_params, find_shape, make_params
from camel_jax.proxy.train import Settings


@pytest.mark.parametrize("experts", [(1, 1), *SPARSITIES], ids=str)
def test_counts_match_the_arrays(experts):
    for base in (LADDER[0], LADDER[3], LADDER[-1]):
        shape = dataclasses.replace(base, experts=experts[0], top_k=experts[1])
        arrays = jax.eval_shape(lambda shape=shape: make_params(shape, 0))
        total, embedding = count_params(arrays)
        assert (total, embedding) == (shape.n_total, 96 * shape.width)
        expert = 2 * shape.width * shape.hidden * shape.layers
        assert shape.n_active == total - (shape.experts - shape.top_k) * expert
        assert abs(shape.n_active / base.n_active - 1) < 0.005
        if experts[1] == 1:
            assert shape.n_active == base.n_active
        found = find_shape(shape.n_active, shape.n_total)
        assert found == shape or abs(found.n_total / shape.n_total - 1) < 0.02
    assert LADDER[-1].n_active > 100 * LADDER[0].n_active


@pytest.mark.parametrize(
    ("asked", "trained"),
    [
        ((6e3, 6e3), (6224, 6224)),
        ((7e3, 7e3), (6224, 6224)),
        ((14e3, 14e3), (13944, 13944)),
        ((14e3, 42e3), (13944, 41016)),
    ],
)
def test_the_nearest_size_is_taken(asked, trained):
    found = find_shape(*asked)
    assert (found.n_active, found.n_total) == trained


def test_every_size_up_to_twice_the_ladder_has_a_nearest_model():
    sizes = np.array([shape.n_active for shape in LADDER])
    for size in np.geomspace(sizes[0] / 1.99, sizes[-1] * 1.99, 60):
        assert find_shape(size, size).n_active == sizes[np.abs(np.log(size / sizes)).argmin()]


def test_sizes_far_off_the_ladder_are_refused():
    with pytest.raises(ValueError, match=r"no proxy model is near 3000 active.*6224, 13944"):
        find_shape(3000, 3000)
    with pytest.raises(ValueError, match=r"6224 active parameters is near 900000 in total: there are 6224, 10"):
        find_shape(6224, 900_000)


def test_half_precision_stays_near():
    params = make_params(TINY, 0)
    symbols = jax.random.randint(jax.random.key(0), (2, 12), 0, 96)
    full, half = (
        jax.jit(functools.partial(apply, TINY, dtype=d))(params, symbols)[0] for d in (jnp.float32, jnp.bfloat16)
    )
    assert full.dtype == half.dtype == jnp.float32 and {leaf.dtype for leaf in jax.tree.leaves(params)} == {full.dtype}
    gap = np.abs(full - half)
    assert 1e-5 < gap.max() < 0.1 * np.abs(full).max()
    assert Settings().resolved().dtype == ("float32" if jax.default_backend() == "cpu" else "bfloat16")


def test_predictions_do_not_see_the_future():
    for shape in (TINY, dataclasses.replace(TINY, experts=4)):
        params = make_params(shape, 0)
        a = jax.random.randint(jax.random.key(0), (2, 12), 0, 96)
        b = a.at[:, 7].set((a[:, 7] + 1) % 96)
        run = jax.jit(functools.partial(apply, shape))
        one, two = (run(params, x)[0] for x in (a, b))
        np.testing.assert_allclose(one[:, :7], two[:, :7], atol=1e-6)
        assert np.abs(one[:, 7:] - two[:, 7:]).max(-1).min() > 1e-5


@pytest.mark.parametrize("k", [1, 2])
def test_experts_equal_a_loop_over_tokens(k):
    from flax import nnx

    shape = dataclasses.replace(TINY, experts=4, top_k=k)
    block = Block(shape, nnx.Rngs(params=1))
    x = 1.0 + jax.random.normal(jax.random.key(2), (40, 16), jnp.float32)
    places = int(np.ceil(1.25 * k * 40 / 4))
    router, up, down = (np.asarray(part[...]) for part in (block.router, block.up, block.down))
    odds = scipy.special.softmax(np.asarray(x) @ router, -1)
    used = np.zeros(4, int)
    kept, whole = np.zeros((40, 16)), np.zeros((40, 16))
    for i in range(40):
        for e in np.argsort(-odds[i], kind="stable")[:k]:
            out = np.square(np.maximum(np.asarray(x)[i] @ up[e], 0)) @ down[e]
            whole[i] += odds[i, e] * out
            kept[i] += odds[i, e] * out * (used[e] < places)
            used[e] += 1
    assert used.max() > places  # some tokens are dropped in training
    with jax.default_matmul_precision("highest"):
        (dropped, _), (out, imbalance) = jax.jit(lambda x: (block._route(x, True), block._route(x, False)))(x)
    np.testing.assert_allclose(dropped, kept, atol=2e-5)
    np.testing.assert_allclose(out, whole, atol=2e-5)
    expected = 4 * np.sum(used / (40 * k) * odds.mean(0))
    np.testing.assert_allclose(imbalance, expected, rtol=1e-5)
