"""The REST resources, one file each."""
