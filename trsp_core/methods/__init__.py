"""The pruning methods: one file each, one contract (`base`), one registry line."""
