"""Fixtures of the model tests."""

import pytest

from support.tiny_models import FAMILIES, as_dca, tiny_model


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture(scope="session")
def models():
    """Gives the plain and the DCA model of a family, built once; tests change neither."""
    built = {}

    def get(family: str):
        if family not in built:
            plain = tiny_model(family)
            built[family] = plain, as_dca(plain)
        return built[family]

    return get


@pytest.fixture
def pair(family, models):
    return models(family)


@pytest.fixture
def dca(pair):
    return pair[1]
