"""The HTTP door: REST under /v1, the dashboard at /, problem+json for everything that goes wrong."""
