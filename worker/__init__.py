"""The workers: a Celery app that hears rings, a supervisor a job, a child process that works on it."""
