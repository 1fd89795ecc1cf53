"""Randomness by name: each stage draws from a stream derived from the seed and its own name.

A new stage, or another order of stages, therefore shifts no other stage's draws.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch


def stream(seed: int, name: str, device: str = "cpu") -> torch.Generator:
    """The generator of one named stream, e.g. `stream(3, "human/0/init")`.

    Its state is the first 63 bits of SHA-256 of `seed/name`: the same on every machine.
    """
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    generator = torch.Generator(device=device)
    generator.manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return generator


def streams(seed: int, names: Sequence[str], device: str = "cpu") -> list[torch.Generator]:
    """One generator per name: what a stacked population draws from, member by member."""
    return [stream(seed, name, device) for name in names]


def children(generators: Sequence[torch.Generator], n: int) -> list[torch.Generator]:
    """n further generators for each, seeded by its own draws: first those of the first, and so on."""
    seeds = [torch.randint(2**63 - 1, (n,), generator=g, device=g.device) for g in generators]
    return [torch.Generator(device=s.device).manual_seed(k) for s in seeds for k in s.tolist()]


@contextmanager
def global_state(generator: torch.Generator) -> Iterator[None]:
    """Let code that knows only global randomness (Pyro, some initialisers) follow `generator`.

    Python's, NumPy's and torch's global states are set from one draw of `generator` and put back
    afterwards. The only place in the project that touches them.
    """
    seed = int(torch.randint(2**31 - 1, (), generator=generator))
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
