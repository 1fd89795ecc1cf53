"""Outer models: they must predict the human, are handed some of its bits, and answer questions."""
