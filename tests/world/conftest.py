import pytest

from infra.world import World, build_world


@pytest.fixture(scope="session")
def world() -> World:
    return build_world("default")


@pytest.fixture(scope="session")
def balanced() -> World:
    return build_world("balanced")


@pytest.fixture(scope="session")
def opposite() -> World:
    return build_world("opposite")
