"""A Pyro model as a log density of one unconstrained vector, for all rows of a batch in one pass through the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import biject_to
from torch.func import grad_and_value, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from reuse_sim.errors import InputError
from reuse_sim.rng import global_state

TRIES = 20
"""Rounds of redrawing starts of no density."""


@dataclass(frozen=True)
class Site:
    """One latent site: name, shape of its unconstrained value, first position in z, dtype."""

    name: str
    shape: tuple[int, ...]
    start: int
    dtype: torch.dtype

    @property
    def slice(self) -> slice:
        return slice(self.start, self.start + prod(self.shape))


class Pass(Messenger):
    """One run of a model with every latent site at its place in z `(d,)`, adding up log densities in nats.

    `prior` is of the latent sites with the log Jacobian of their constraints, `likelihood` of observed sites and
    factors; `values` holds latent and deterministic sites.
    """

    def __init__(self, sites: dict[str, Site], z: Tensor) -> None:
        super().__init__()
        self.sites, self.z, self.seen = sites, z, ""
        self.prior = self.likelihood = z.new_zeros(())
        self.values: dict[str, Tensor] = {}

    def _pyro_sample(self, msg: Any) -> None:
        if site_is_subsample(msg) or msg["is_observed"]:
            return
        self.seen = msg["name"]
        if self.seen not in self.sites:
            raise InputError(f"model site {self.seen!r}", "a site that other draws of the prior do not have",
                             "the same sites whatever their values", "Take a mixture instead of a branch.")
        site = self.sites[self.seen]
        raw = self.z[site.slice].reshape(site.shape).to(site.dtype)
        constrain: Any = biject_to(msg["fn"].support)
        msg["value"], msg["done"] = constrain(raw), True
        jacobian = constrain.log_abs_det_jacobian(raw, msg["value"])
        self.prior = self.prior + jacobian.sum()

    def _pyro_post_sample(self, msg: Any) -> None:
        if site_is_subsample(msg):
            return
        self.seen = msg["name"]
        if not msg["is_observed"]:
            self.values[self.seen] = msg["value"]
            self.prior = self.prior + self._log_prob(msg)
        elif msg["infer"].get("_deterministic"):
            self.values[self.seen] = msg["value"]
        else:
            self.likelihood = self.likelihood + self._log_prob(msg)

    @staticmethod
    def _log_prob(msg: Any) -> Tensor:
        density = msg["fn"].log_prob(msg["value"], *msg["args"], **msg["kwargs"])
        return scale_and_mask(density, msg["scale"], msg["mask"]).sum()


@dataclass(frozen=True)
class Sites:
    """The latent sites of `model(*args)`, which lie one after another in z `(d,)`, unconstrained."""

    model: Callable[..., Any]
    args: tuple[Any, ...]
    latent: dict[str, Site]

    @staticmethod
    def of(model: Callable[..., Any], *args: Any, generator: torch.Generator) -> Sites:
        """From one draw of the prior. Raises InputError, naming the site, for what cannot be moved or batched."""
        latent, end = {}, 0
        for name, node in _trace(model, args, generator).nodes.items():
            if node["type"] != "sample":
                continue
            if site_is_subsample(node):
                if node["fn"].subsample_size not in (None, node["fn"].size):
                    raise InputError(f"model plate {name!r}", "a minibatch", "the whole plate")
            elif not node["is_observed"]:
                if node["fn"].support.is_discrete:
                    raise InputError(f"model site {name!r}", "a discrete latent site", "continuous latent sites",
                                     "Sum it out: write its mixture as a factor.")
                raw = biject_to(node["fn"].support).inv(node["value"])
                latent[name] = Site(name, tuple(raw.shape), end, raw.dtype)
                end = latent[name].slice.stop
        if not latent:
            raise InputError("model", "no latent site", "a model with something to infer")
        sites = Sites(model, args, latent)
        sites._hold(sites.draw(3, generator))
        return sites

    @property
    def dim(self) -> int:
        return list(self.latent.values())[-1].slice.stop

    @property
    def dtype(self) -> torch.dtype:
        return torch.float64 if any(s.dtype == torch.float64 for s in self.latent.values()) else torch.float32

    def one(self, z: Tensor, *args: Any) -> Pass:
        """The model at one z `(d,)`; with `args`, on those instead of its own."""
        done = Pass(self.latent, z)
        with pyro.validation_enabled(False), pyro.get_param_store().scope(), done:
            self.model(*(args or self.args))
        return done

    def each(self, what: Callable[[Pass], Any], z: Tensor) -> Any:
        """`what` of the model at every z `(n, d)`, stacked. Raises InputError where the model cannot be batched."""
        seen = ""

        def alone(row: Tensor) -> Any:
            nonlocal seen
            done = Pass(self.latent, row)
            try:
                with pyro.validation_enabled(False), pyro.get_param_store().scope(), done:
                    self.model(*self.args)
            finally:
                seen = done.seen
            return what(done)

        try:
            return vmap(alone, randomness="error")(z)
        except (RuntimeError, ValueError, NotImplementedError, TypeError) as error:
            after = f", after site {seen!r}" if seen else ""
            reason = str(error).splitlines()[0]
            raise InputError(f"model{after}", f"what cannot run for many chains at once ({reason})",
                             "torch operations, with no decision and no .item() that depends on a latent value",
                             "Or give hmc.run a batched potential of your own.") from error

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Prior draws z `(n, d)`."""
        rows = []
        for _ in range(n):
            nodes = _trace(self.model, self.args, generator).nodes
            raw = [biject_to(nodes[name]["fn"].support).inv(nodes[name]["value"]).detach() for name in self.latent]
            rows.append(torch.cat([r.reshape(-1).to(self.dtype) for r in raw]))
        return torch.stack(rows)

    def start(self, n: int, generator: torch.Generator) -> Tensor:
        """Prior draws z `(n, d)` at which density and gradient are finite."""
        z = self.draw(n, generator)
        for _ in range(TRIES):
            energy, slope = self.potential(z)
            bad = ~(energy.isfinite() & slope.isfinite().all(-1))
            if not bool(bad.any()):
                return z
            z = z.clone()
            z[bad] = self.draw(int(bad.sum()), generator)
        raise InputError("model", f"prior draws without density or gradient, {int(bad.sum())} of {n} in {TRIES} tries",
                         "a prior that the data do not rule out")

    def potential(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Minus log joint density `(n,)` of z `(n, d)` and its gradient `(n, d)`."""
        with torch.enable_grad():
            leaf = z.detach().requires_grad_(True)
            energy = -self.each(lambda done: done.prior + done.likelihood, leaf)
            (slope,) = torch.autograd.grad(energy.sum(), leaf)
        return energy.detach(), slope

    def compiled(self, z: Tensor, *data: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """`potential` for batches of the shape of z `(n, d)`, as the list of tensor operations that it comes down to.

        Without Pyro's bookkeeping at every call it is up to three times as fast. With `data` `(n, …)`, row k of z is
        asked about the model called with row k of each in place of its own arguments: many data sets in one batch.
        """
        each = vmap(
            grad_and_value(lambda row, *own: -(p := self.one(row, *own)).prior - p.likelihood), randomness="error"
        )
        try:
            graph: Any = make_fx(lambda z: each(z, *data))(z)
            graph.graph.eliminate_dead_code()
            graph.recompile()
            other = z.roll(1, 0) + (z.roll(1, 0) - z) / 64  # not where it was recorded
            same = zip(graph(other), each(other, *data), strict=True)
            alike = all(torch.allclose(a, b, rtol=1e-3, atol=1e-3, equal_nan=True) for a, b in same)
        except Exception:  # whatever an operation of the model's own may raise
            alike = False
        run = graph if alike else lambda z: each(z, *data)

        def potential(z: Tensor) -> tuple[Tensor, Tensor]:
            with torch.no_grad():
                slope, energy = run(z)
            return energy, slope

        return potential

    def values(self, z: Tensor) -> dict[str, Tensor]:
        """Latent sites, constrained, and deterministic ones, each `(…, *shape)`, of z `(…, d)`."""
        with torch.no_grad():
            flat = self.each(lambda done: done.values, z.reshape(-1, self.dim))
        return {name: value.unflatten(0, z.shape[:-1]) for name, value in flat.items()}

    def _hold(self, z: Tensor) -> None:
        """That a batch gives what its rows give alone."""
        together = self.each(lambda done: done.prior + done.likelihood, z)
        alone = torch.stack([(p := self.one(row)).prior + p.likelihood for row in z])
        if not torch.allclose(together, alone, rtol=1e-3, atol=1e-3, equal_nan=True):
            raise InputError("model", f"log densities {together.tolist()} in a batch and {alone.tolist()} alone",
                             "the same", "Let nothing in it depend on how often it is called.")


def _trace(model: Callable[..., Any], args: tuple[Any, ...], generator: torch.Generator) -> Any:
    with global_state(generator), pyro.get_param_store().scope(), torch.no_grad():
        return poutine.trace(model).get_trace(*args)
