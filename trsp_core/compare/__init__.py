"""Several methods on one model, one calibration batch and the same texts: one table and one picture."""
