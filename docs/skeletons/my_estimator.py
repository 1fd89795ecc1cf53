"""A specialness estimator: plain Monte Carlo from the reference. Copy this file and change it.

Honest and hopeless beyond some ten bits, and it says so.
"""

import math

import torch
from torch import Tensor

from reuse_sim.specialness.problem import LN2, Problem, limits
from reuse_sim.types import Estimate

ENOUGH = 100


# `effort` scales the work; `start` is a θ the method may begin with, such as a trained human; `level` is that of
# the limits. Randomness comes from `generator` only: code that knows only global randomness goes inside
# rng.global_state(generator).
def estimate(
    problem: Problem, effort: float, generator: torch.Generator, start: Tensor | None, level: float
) -> Estimate:
    draws = max(1000, round(20_000 * effort))
    theta = problem.reference.sample(draws, generator)
    # In nats: −strength C in the soft form; of the hard event, 0 inside and −inf outside.
    log_weights = torch.where(problem.cost(theta) <= problem.tolerance, 0.0, -torch.inf) if problem.hard else (
        problem.log_likelihood(theta))
    weights = (log_weights - log_weights.max()).exp()
    bits = -(float(weights.mean().log() + log_weights.max())) / LN2
    error = float(weights.std() / weights.mean()) / math.sqrt(draws) / LN2

    # A figure comes with limits, and with one sentence a user can act on where it is not to be believed.
    effective = float(weights.sum() ** 2 / weights.square().sum())
    good = effective >= ENOUGH
    low, high = limits(bits, error, level)
    return Estimate(
        bits=bits,
        low=low,
        high=high,
        bound="two-sided" if good else "none",
        kind="global",  # the reference holds all copies of a network
        status="converged" if good else f"only {effective:.0f} draws count (< {ENOUGH}): raise effort, or take nuts",
        level=level,
        diagnostics={"effective_draws": effective, **problem.report},  # with reference, consistency, tolerance
    )
