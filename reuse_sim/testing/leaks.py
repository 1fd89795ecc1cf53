"""The contract of a leak channel."""

from __future__ import annotations

import torch

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp
from reuse_sim.rng import stream
from reuse_sim.testing.tools import SEED, claim, follows
from reuse_sim.types import BITS, LeakChannel, Schedule


def check_leak(channel: LeakChannel) -> None:
    """One time and one mark per bit, from the generator alone. A human with too few bits may be an InputError."""
    follows("leaks", channel)
    whose = ("own", "unrelated", "sibling", "random")
    claim(channel.of in whose, f"of is '{channel.of}'; expected one of {', '.join(whose)}")
    for net, steps in ((Mlp((3, 4, 4, 1)), 500), (Mlp((3, 4, 4, 1)), 1), (Mlp((1, 1), bias=False), 500)):
        random_state = torch.get_rng_state()
        try:
            told, again = (channel.schedule(net, steps, stream(SEED, "leak")) for _ in range(2))
        except InputError:
            claim(net.p == 1, "schedule: InputError for a human of three layers and 41 parameters")
            continue
        claim(isinstance(told, Schedule), f"schedule returned {type(told).__name__}, not a Schedule")
        claim(torch.equal(random_state, torch.get_rng_state()), "schedule moved the global random state")
        claim(told.code in ("fixed", "half"), f"schedule: code is '{told.code}'; expected fixed or half")
        for what, tensor, same in (("when", told.when, again.when), ("flipped", told.flipped, again.flipped)):
            shape = tuple(tensor.shape)
            claim(shape == (net.p, BITS), f"schedule's {what}: shape {shape}, not ({net.p}, {BITS})")
            claim(torch.equal(tensor, same), f"schedule: equal generators, another {what}")
        claim(told.flipped.dtype == torch.bool, f"schedule's flipped: {told.flipped.dtype}, not torch.bool")
        claim(bool((told.when >= 0).all()), "schedule's when: a step below 0, or not a number")
