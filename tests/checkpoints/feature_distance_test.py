import dataclasses

import numpy as np
import pytest

from rahf.checkpoints import feature_distance
from rahf.checkpoints.feature_distance import FeatureSummary

PARAMS = {"visual_token_projection": {"kernel": np.ones((2, 3), np.float32)}}


def _draw(number, width=40, seed=0):
    """Correlated features, of which a few directions carry most."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(7).normal(size=(5, width))
    noise = 0.3 * rng.normal(size=(number, width))
    return (rng.normal(size=(number, 5)) @ mixing + noise + 10).astype(np.float32)


@pytest.fixture(scope="module")
def summary():
    return FeatureSummary.fit(_draw(500))


def test_with_every_direction_it_is_mahalanobis():
    features = _draw(200, width=4)  # 3 directions, and one that is left
    found = FeatureSummary.fit(features).measure(features[:9])
    centred = features[:9] - features.mean(0)
    inverse = np.linalg.inv(np.cov(features.T, bias=True))
    expected = np.sqrt(np.einsum("bi,ij,bj->b", centred, inverse, centred))
    np.testing.assert_allclose(found, expected, rtol=5e-3)  # directions are float16


def test_percentiles_of_new_images_of_the_same_kind_are_even(summary):
    found = summary.percentiles(_draw(2000, seed=1))
    shares = np.histogram(found, bins=[0, 25, 50, 75, 100.1])[0] / 2000
    np.testing.assert_allclose(shares, 0.25, atol=0.06)
    assert 0.002 < (found > 99).mean() < 0.03


def test_images_of_another_kind_are_far(summary):
    same = _draw(300, seed=2)
    assert (summary.percentiles(same + 3.0) > 99).all()  # moved
    # The same means and variances of each feature, but not how they go together.
    rng = np.random.default_rng(3)
    shuffled = np.stack([rng.permutation(column) for column in same.T], axis=1)
    assert (summary.percentiles(shuffled) > 99).mean() > 0.95


def test_features_that_never_change_make_nothing_infinite():
    features = _draw(100)
    features[:, 3] = 0.5
    found = FeatureSummary.fit(features)
    assert np.isfinite(found.measure(features)).all()
    changed = features[:1].copy()
    changed[0, 3] = 5.0
    assert found.percentiles(changed) == 100


def test_too_few_images():
    with pytest.raises(
        feature_distance.TooFewImagesError, match="at least 20 .*, got 19"
    ):
        FeatureSummary.fit(_draw(19))
    assert len(FeatureSummary.fit(_draw(20)).distances) == 20


def test_written_and_read(summary, tmp_path):
    path = feature_distance.write(tmp_path, 7, PARAMS, summary)
    assert path.name == "image_features_7.npz"
    assert path.stat().st_size < 200_000
    found = feature_distance.read(tmp_path, 7, PARAMS)
    for field in dataclasses.fields(summary):
        np.testing.assert_array_equal(
            getattr(found, field.name), getattr(summary, field.name)
        )
    assert feature_distance.read(tmp_path, 8, PARAMS) is None


def test_of_other_parameters_it_says_nothing(summary, tmp_path):
    feature_distance.write(tmp_path, 7, PARAMS, summary)
    other = {"visual_token_projection": {"kernel": np.zeros((2, 3), np.float32)}}
    assert feature_distance.read(tmp_path, 7, other) is None


def test_a_damaged_file_is_one_clear_error(summary, tmp_path):
    path = feature_distance.write(tmp_path, 7, PARAMS, summary)
    whole = path.read_bytes()
    odd = dataclasses.replace(summary, mean=summary.mean[:-1])
    objects = dataclasses.replace(summary, mean=np.array([print, 1], object))
    for content in (
        b"",
        b"not npz",
        whole[: len(whole) // 2],
        feature_distance.encode(odd, PARAMS),
        feature_distance.encode(objects, PARAMS),  # would run what it holds
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="image_features_7.npz is not a summary"):
            feature_distance.read(tmp_path, 7, PARAMS)
