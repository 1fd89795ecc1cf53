"""Scenario files: the only place that reads YAML. One file in, one frozen and wholly checked `Scenario` out."""

from reuse_sim.scenario.loading import Cell, Scenario, experiment_module, find_project, load, schema

__all__ = ["Cell", "Scenario", "experiment_module", "find_project", "load", "schema"]
