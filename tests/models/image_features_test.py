import numpy as np
import pytest

from rahf.models import image_features
from rahf.models.rahf import make_model
from tests.support import tiny


@pytest.mark.parametrize("class_token", [True, False])
def test_means_and_deviations_of_the_patches_alone(class_token):
    config = tiny.config()
    config.model.vit.class_token = class_token
    tokens = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    found = image_features.pool(make_model(config), tokens)
    patches = tokens[:, 1:] if class_token else tokens
    expected = np.concatenate([patches.mean(1), patches.std(1)], axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-6)
