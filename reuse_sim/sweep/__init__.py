"""Sweeps: every cell of a scenario measured once, in this process or in several, and its records kept."""

from reuse_sim.sweep.cells import folder, store_path
from reuse_sim.sweep.running import Outcome, header, run

__all__ = ["Outcome", "folder", "header", "run", "store_path"]
