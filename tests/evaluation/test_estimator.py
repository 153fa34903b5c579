"""A law as a scikit-learn estimator: cloned, cross-validated over frames, the same numbers as ``fit``, clear refusals."""

import jax
import numpy as np
import pytest

sklearn = pytest.importorskip("sklearn")
from sklearn.base import clone  # noqa: E402
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score  # noqa: E402

import camel_jax as cj  # noqa: E402
from camel_jax.evaluation import simulate  # noqa: E402


@pytest.fixture(scope="module")
def table():
    return simulate.study(jax.random.key(0), n_domains=3, n_mixtures=10, sizes=(1e7, 4e7), checkpoints=2)


@pytest.fixture(scope="module")
def frames(table):
    frame = table.to_frame()
    losses = frame.filter(like="loss/")
    return frame.drop(columns=losses.columns), losses


@pytest.mark.slow
def test_the_adapter_gives_what_fit_gives(table, frames):
    recipes, losses = frames
    model = clone(cj.LawRegressor("dml", starts=1, seed=3))
    assert isinstance(model, cj.LawRegressor)
    model.fit(recipes, losses)
    assert model.get_params() == {"law": "dml", "skills": None, "starts": 1, "field": True, "seed": 3}
    fitted = cj.fit(cj.laws.dml(), table, key=jax.random.key(3), starts=1, backtests=0)
    np.testing.assert_allclose(model.predict(recipes), fitted.predict(table.recipe), rtol=1e-8)
    one = cj.LawRegressor("dml", starts=1).fit(recipes.drop(columns="run"), losses["loss/v0"].to_numpy())
    assert one.predict(recipes.drop(columns="run")).shape == (len(recipes),)
    assert model.score(recipes, losses) > 0.9


@pytest.mark.slow
def test_it_is_cross_validated_over_frames(frames):
    recipes, losses = frames
    split = GroupKFold(3)
    scores = cross_val_score(cj.LawRegressor("dml", starts=1), recipes, losses, groups=recipes["run"], cv=split)
    assert scores.shape == (3,) and scores.min() > 0.5
    search = GridSearchCV(cj.LawRegressor(starts=1), {"law": ["chinchilla", "dml"]}, cv=split)
    search.fit(recipes, losses, groups=recipes["run"])
    assert search.best_params_ == {"law": "dml"}  # chinchilla does not see mixtures


def test_what_is_no_table_is_refused(frames):
    recipes, losses = frames
    model = cj.LawRegressor("dml", starts=1)
    with pytest.raises(ValueError, match="not fitted"):
        model.predict(recipes)
    with pytest.raises(ValueError, match="must be a DataFrame"):
        model.fit(recipes.to_numpy(), losses)
    with pytest.raises(cj.TableError, match="tokens"):
        model.fit(recipes.drop(columns="tokens"), losses)
    with pytest.raises(cj.TableError, match="loss/v0"):
        model.fit(recipes, -losses)
    with pytest.raises(ValueError, match="the laws are"):
        cj.LawRegressor("unknown").fit(recipes, losses)
