"""The result in other formats: one file and one registry line per format."""
