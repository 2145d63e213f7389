"""Whose a resource is."""

from __future__ import annotations

OPERATOR = "operator"
"""Whoever holds the service's one key."""
