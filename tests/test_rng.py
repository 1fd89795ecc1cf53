"""Streams belong to their names; global randomness is left as it was found."""

import hashlib
import random

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from reuse_sim.rng import global_state, stream, streams


@given(st.integers(0, 10_000), st.text(min_size=1, max_size=20))
def test_a_stream_does_not_depend_on_what_was_drawn_before(seed, name):
    first = torch.randn(3, generator=stream(seed, name))
    torch.randn(7, generator=stream(seed, name + "/other"))
    torch.randn(5)
    assert torch.equal(first, torch.randn(3, generator=stream(seed, name)))


def test_streams_of_other_names_and_seeds_differ():
    draws = [torch.randn(4, generator=g) for g in [*streams(0, ["a", "b", "a/b"]), stream(1, "a"), stream(11, "a")]]
    assert all(not torch.equal(a, b) for i, a in enumerate(draws) for b in draws[:i])


def test_a_stream_is_the_same_on_every_machine():
    """SHA-256 of `3/human/0/init`, first 63 bits: fixed for good."""
    digest = hashlib.sha256(b"3/human/0/init").digest()
    assert stream(3, "human/0/init").initial_seed() == int.from_bytes(digest[:8], "big") >> 1


def test_global_state_follows_the_generator_and_is_put_back():
    random.seed(1)
    np.random.seed(1)
    before = torch.get_rng_state()
    python_next, numpy_state = random.Random(1).random(), np.random.get_state()[1].copy()
    inside = []
    for _ in range(2):
        with global_state(stream(0, "guard")):
            inside.append((random.random(), float(np.random.rand()), float(torch.rand(()))))
    assert inside[0] == inside[1]
    assert torch.equal(before, torch.get_rng_state())
    assert random.random() == python_next and (np.random.get_state()[1] == numpy_state).all()
