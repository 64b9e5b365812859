"""The managed chain registry on localhost: its service, leases, login and data."""

from __future__ import annotations

from typing import Final

DEFAULT_PORT: Final = 5000
"""The port of the managed registry, if the user names none."""
