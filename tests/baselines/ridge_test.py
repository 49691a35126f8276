import numpy as np
import pytest

from rahf.baselines import ridge


def _draw(rows, features, noise, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(2, 3, (rows, features))
    return x, x @ rng.normal(size=features) + noise * rng.normal(size=rows)


@pytest.mark.parametrize(("rows", "features"), [(30, 8), (8, 30)])
def test_closed_form(rows, features):
    """By the normal equations, for more and for fewer rows than features."""
    x, y = _draw(rows, features, 1.0)
    z = (x - x.mean(0)) / x.std(0)
    for found in ridge.fit_all(x, y)[::3]:
        system = z.T @ z + found.penalty * rows * np.eye(features)
        weights = np.linalg.solve(system, z.T @ (y - y.mean()))
        np.testing.assert_allclose(
            found.predict(x), z @ weights + y.mean(), rtol=1e-4, atol=1e-4
        )


def test_a_feature_that_never_changes_is_ignored():
    x, y = _draw(30, 4, 0.1)
    constant = np.concatenate([x, np.full((30, 1), 7.0)], axis=1)
    for one, other in zip(ridge.fit_all(x, y), ridge.fit_all(constant, y), strict=True):
        np.testing.assert_allclose(other.weights, [*one.weights, 0], atol=1e-6)


def test_the_penalty_follows_the_noise():
    parts = np.array_split(np.arange(120), 4)
    chosen = [
        ridge.choose(*_draw(120, 20, noise), parts).penalty for noise in (0.01, 60.0)
    ]
    assert chosen[0] == min(ridge.PENALTIES)
    assert chosen[1] > 0.2


def test_noise_is_not_predicted():
    """Nested: a penalty chosen on the tested part would find something."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(100, 60)), rng.normal(size=100)
    parts = np.array_split(np.arange(100), 4)
    found, trivial = ridge.cross_validate(x, y, parts, range(4))
    assert abs(np.corrcoef(found, y)[0, 1]) < 0.3
    assert np.square(found - y).mean() > 0.95 * np.square(trivial - y).mean()


def test_a_part_is_predicted_from_the_others_alone():
    x, y = _draw(60, 5, 1.0)
    parts = np.array_split(np.arange(60), 3)
    found, trivial = ridge.cross_validate(x, y, parts, [1])
    assert np.isnan(found[parts[0]]).all()
    assert np.isnan(found[parts[2]]).all()
    changed = y.copy()
    changed[parts[1]] += 100
    again, _ = ridge.cross_validate(x, changed, parts, [1])
    np.testing.assert_array_equal(found[parts[1]], again[parts[1]])
    others = np.concatenate([parts[0], parts[2]])
    np.testing.assert_allclose(trivial[parts[1]], y[others].mean())
