"""Worlds: where questions come from, what answers them rightly, and where humans are (not) trained. One file each."""
