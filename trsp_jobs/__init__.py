"""The domain of the service: what a job is, how it may change, where it and its files are kept."""
