"""The kernels of these tests: compiled once, with a driver that is as new before each."""

import pytest

from .build import compiler
from .library import Kernels
from .library import kernels as library


@pytest.fixture
def kernels() -> Kernels:
    if compiler() is None:
        pytest.skip("expected the C++ compiler g++, or one named by CXX; found none")
    found = library()
    found.reset()
    return found
