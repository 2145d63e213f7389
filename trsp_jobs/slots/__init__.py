"""Slots: names under which one result at a time is published, and the gate before them."""

from trsp_jobs.slots.publishing import get_slot, history, list_slots, offer, publish, rollback
from trsp_jobs.slots.repository import holding

__all__ = ["get_slot", "history", "holding", "list_slots", "offer", "publish", "rollback"]
