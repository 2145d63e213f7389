"""A person's door: starts the service, submits to it, watches it, and works without it."""
