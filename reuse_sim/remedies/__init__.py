"""Remedies: what is meant to make a model that knows the human answer rightly all the same."""
