"""Who calls the service."""

from __future__ import annotations

OPERATOR_OWNER = "operator"
"""Whoever holds the service's one key."""
