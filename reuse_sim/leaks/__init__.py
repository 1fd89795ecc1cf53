"""Leaks: which bits of a coded θ2 an outer model is shown."""
