from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern

from raynas.samplers.surrogate import LENGTHS, NOISES, SurrogateModel

POINTS = np.random.default_rng(0).uniform(size=(60, 3)) * 3


def surrogate(places, y, doubt=None) -> SurrogateModel:
    distances = cdist(POINTS[places], POINTS)
    return SurrogateModel(distances, places, y, np.ones(len(y)) if doubt is None else doubt)


def reference(model: SurrogateModel, places, y, doubt) -> tuple[np.ndarray, np.ndarray]:
    """The same posterior by scikit-learn, with the settings that the model chose."""
    centre, spread = y.mean(), y.std()
    scaled = (y - centre) / spread
    gp = GaussianProcessRegressor(
        Matern(model._length, nu=2.5), alpha=model._noise * doubt, optimizer=None
    ).fit(POINTS[places], scaled)
    mean, deviation = gp.predict(POINTS, return_std=True)
    scale = np.sqrt(scaled @ gp.alpha_ / len(y))
    return centre + spread * mean, spread * scale * deviation


def data(n=20, noise=0.1, seed=1):
    rng = np.random.default_rng(seed)
    places = [int(p) for p in rng.choice(len(POINTS), n, replace=False)]
    y = np.sin(POINTS[places] @ [1.0, 2.0, 0.5]) + noise * rng.normal(size=n)
    return places, 7 + 3 * y


@pytest.mark.parametrize("n", [2, 20, 50])
def test_mean_and_deviation_are_those_of_scikit_learn(n):
    places, y = data(n)
    doubt = np.where(np.arange(n) % 3 == 0, 4.0, 1.0)
    model = surrogate(places, y, doubt)
    mean, deviation = reference(model, places, y, doubt)
    np.testing.assert_allclose(model.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(model.deviation, deviation, rtol=1e-3, atol=1e-5)


def test_the_settings_are_those_of_the_highest_evidence():
    places, y = data(40)
    model = surrogate(places, y)
    scaled = (y - y.mean()) / y.std()
    found = {}
    for length in LENGTHS:
        for noise in NOISES:
            kernel = Matern(length, nu=2.5)(POINTS[places]) + noise * np.eye(len(y))
            fit = scaled @ np.linalg.solve(kernel, scaled) / len(y)
            # the logarithm of the normal density at the best variance, but for constants
            found[length, noise] = -np.linalg.slogdet(fit * kernel)[1]
    assert max(found, key=found.__getitem__) == (model._length, model._noise)


@pytest.mark.parametrize("together", [1, 10, 40])
def test_what_is_expected_narrows_the_deviation_as_a_measurement_would(together):
    places, y = data(20)
    model = surrogate(places, y)
    before = model.mean.copy()
    others = [p for p in range(len(POINTS)) if p not in places]
    for start in range(0, len(others), together):
        some = others[start : start + together]
        model.expect(some, cdist(POINTS[some], POINTS))
    gp = GaussianProcessRegressor(
        Matern(model._length, nu=2.5), alpha=model._noise, optimizer=None
    ).fit(POINTS[places + others], np.zeros(len(POINTS)))
    _, deviation = gp.predict(POINTS, return_std=True)
    np.testing.assert_allclose(model.deviation, model._scale * deviation, rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(model.mean, before)


@pytest.mark.parametrize("y", [[4.0], [4.0, 4.0, 4.0]])
def test_values_without_spread_say_nothing(y):
    model = surrogate(list(range(len(y))), np.array(y))
    np.testing.assert_allclose(model.mean, 4.0)
    assert np.isfinite(model.deviation).all()
