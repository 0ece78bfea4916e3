"""One random shop for all bridge tests: its twin is slow."""

from __future__ import annotations

import pytest

from tests.bridge.shops import Shop, random_shop


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return random_shop(tmp_path_factory.mktemp("shop"))
