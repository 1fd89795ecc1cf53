"""Humans: limited learners of the teacher."""
