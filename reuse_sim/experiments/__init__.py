"""Experiments: one file each, composing the rooms below it; reads like a method section."""
