"""Packages of extras that a test needs: where they are missing it is skipped, but not in CI."""

from __future__ import annotations

import importlib.util
import os

import pytest


def needs(package: str, extra: str) -> pytest.MarkDecorator:
    """Skip without `package`; in CI, where `dev` brings it, the test runs and fails."""
    missing = importlib.util.find_spec(package) is None and not os.environ.get("CI")
    return pytest.mark.skipif(missing, reason=f"{package} is not installed: pip install .[{extra}]")
