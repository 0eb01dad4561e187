"""The C++ compiler that some tests need."""

import os

import pytest

from runner.compiling.programs import compiler


def needs_compiler() -> None:
    """Skip where there is no C++ compiler; CI has one."""
    if compiler() is None:
        assert "CI" not in os.environ, "CI has a C++ compiler"
        pytest.skip("there is no C++ compiler (g++)")
