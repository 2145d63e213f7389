"""Schedules: job specs that become jobs at times of a cron, and what came of each time."""

from trsp_jobs.schedules.editing import (
    Terms,
    change,
    create,
    delete,
    get_schedule,
    list_fires,
    list_schedules,
    preview,
    resume,
    suspend,
)
from trsp_jobs.schedules.firing import holder_of, run_now, tick

__all__ = [
    "Terms",
    "change",
    "create",
    "delete",
    "get_schedule",
    "holder_of",
    "list_fires",
    "list_schedules",
    "preview",
    "resume",
    "run_now",
    "suspend",
    "tick",
]
