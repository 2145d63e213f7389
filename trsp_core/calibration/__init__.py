"""Text to calibrate on and to be judged on: one file a set or kind of set, windows cut in `windows`."""
