"""Joint representations: ways to have the teacher and the human from less, each with its bits and its compute."""
