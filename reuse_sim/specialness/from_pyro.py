"""A Pyro model as a specialness problem: its prior is the reference, what it says of itself the consistency.

θ lies where the model's continuous latent sites are unconstrained, one after another; the density of the reference
holds the Jacobian. So gradients find no walls, and the measure of an event is what it is in the model's own terms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reuse_sim.errors import InputError, nearest
from reuse_sim.rng import stream
from reuse_sim.specialness.problem import Problem
from reuse_sim.specialness.sites import Pass, Sites


@dataclass(frozen=True)
class Prior:
    """The latent sites' prior over unconstrained θ `(d,)`."""

    sites: Sites
    name: str

    @property
    def dim(self) -> int:
        return self.sites.dim

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draws `(n, d)`, by the model itself."""
        return self.sites.draw(n, generator).double()

    def log_prob(self, theta: Tensor) -> Tensor:
        """Log density in nats of θ `(…, d)`: `(…,)`."""
        return self.sites.each(lambda done: done.prior, theta.reshape(-1, self.dim)).reshape(theta.shape[:-1])


def problem(
    model: Callable[..., Any], *args: Any, consistency: str | None = None, tolerance: float | None = None
) -> Problem:
    """The specialness of `model(*args)`.

    Args:
        consistency: the deterministic site that holds C, `pyro.deterministic("consistency", c)`, one number. The hard
            event C ≤ tolerance is asked about. Where absent, C is minus the log likelihood in nats of all observed
            sites and factors, at strength 1: the soft form, whose bits are the model's −log₂ evidence.
        tolerance: the largest C that counts as consistent; not needed for the evidence.

    Raises InputError, naming the site, for discrete latent sites, minibatch plates, models that cannot be batched
    (`sites`), and a consistency that the model does not have.
    """
    sites = Sites.of(model, *args, generator=stream(0, "from_pyro"))
    prior = Prior(sites, f"prior of {getattr(model, '__name__', 'the model')}")
    if consistency is None:
        return Problem(
            dim=sites.dim, reference=prior, cost=lambda theta: sites.each(lambda done: -done.likelihood, theta),
            tolerance=1.0 if tolerance is None else tolerance,
            consistency="minus log likelihood of observed sites and factors", strength=1.0,
        )
    known = set(sites.values(prior.sample(1, stream(0, "from_pyro")))) - set(sites.latent)
    if consistency not in known:
        raise InputError("consistency", repr(consistency), f"a deterministic site of the model ({', '.join(known)})",
                         nearest(consistency, known) or "write pyro.deterministic(name, C)")
    if tolerance is None:
        raise InputError("tolerance", tolerance, "the largest C that counts as consistent")

    def value(done: Pass) -> Tensor:
        c = done.values[consistency]
        if c.numel() != 1:
            raise InputError(f"model site {consistency!r}", f"shape {tuple(c.shape)}", "one number")
        return c.reshape(())

    return Problem(
        dim=sites.dim, reference=prior, cost=lambda theta: sites.each(value, theta), tolerance=tolerance,
        consistency=consistency,
    )
