"""The spurious-cue world: balanced truth, cues that agree as often as stated, humans who count them."""

from __future__ import annotations

from math import comb, pi

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.humans import descent
from reuse_sim.rng import stream, streams
from reuse_sim.worlds import spurious

NAMES = ["a", "b", "c", "d"]
WORLD = spurious.build()
N = 20_000


def agreeing(world: spurious.Spurious, theta: Tensor, x: Tensor) -> Tensor:
    """Number of cues with the truth's sign, `(N, n)`."""
    return (x[..., world.cues].sign() == world.answer(theta, x).unsqueeze(-1)).sum(-1)


def test_teachers_are_orthonormal_and_answer_by_their_form() -> None:
    world = spurious.build(core=7, pairs=3)
    theta = world.teacher(streams(0, NAMES))
    directions = theta.unflatten(-1, (6, 7))
    torch.testing.assert_close(directions @ directions.mT, torch.eye(6).expand(4, 6, 6), atol=1e-6, rtol=0)
    # At z = s u_j + t v_j the form is s t, whatever the cues say.
    for j in range(3):
        for s, t in ((1.0, 2.0), (-1.0, 2.0), (-3.0, -0.5)):
            z = s * directions[:, 2 * j] + t * directions[:, 2 * j + 1]
            x = torch.cat([z, torch.full((4, 5), 1.0)], -1).unsqueeze(1)
            assert (world.answer(theta, x) == (1.0 if s * t > 0 else -1.0)).all()


@pytest.mark.parametrize("options", [{}, {"core": 8, "pairs": 4}])
def test_truth_is_balanced_and_of_the_form_only(options: dict[str, int]) -> None:
    world = spurious.build(**options)
    theta = world.teacher(streams(0, NAMES)).double()
    x = world.on_distribution(theta, N, streams(1, NAMES))
    f = world.answer(theta, x)
    assert f.mean(1).abs().max() < 4 / N**0.5
    if not options:
        # E |u·z||v·z| = 2/π for one pair, with E (u·z)²(v·z)² = 1.
        form = (x[..., :4] @ theta.unflatten(-1, (2, 4)).mT).prod(-1)
        assert ((f * form).mean(1) - 2 / pi).abs().max() < 4 * ((1 - 4 / pi**2) / N) ** 0.5
    x[..., world.cues] *= -3
    assert torch.equal(world.answer(theta, x), f)


@pytest.mark.parametrize(("shift", "strength", "p"), [
    ("random", None, 0.9), ("random", 0.0, 0.9), ("random", 0.5, 0.7), ("random", 1.0, 0.5), ("random", 3.0, 0.5),
    ("flip", None, 0.9), ("flip", 0.5, 0.5), ("flip", 1.0, 0.1), ("flip", 3.0, 0.1),
])
def test_the_number_of_agreeing_cues_is_binomial(shift: str, strength: float | None, p: float) -> None:
    world = spurious.build(shift=shift)  # pyright: ignore[reportArgumentType]
    theta = world.teacher(streams(0, NAMES))
    g = streams(1, NAMES)
    x = world.on_distribution(theta, N, g) if strength is None else world.off_distribution(theta, N, g, strength)
    counts = torch.bincount(agreeing(world, theta, x).flatten(), minlength=6).double() / (4 * N)
    for k in range(6):
        expected = comb(5, k) * p**k * (1 - p) ** (5 - k)
        assert abs(counts[k].item() - expected) < 4 * (expected * (1 - expected) / (4 * N)) ** 0.5 + 1e-12


def test_core_features_and_sizes_of_cues_are_alike_on_and_off() -> None:
    theta = WORLD.teacher(streams(0, NAMES))
    on, off = (draw(theta, N, streams(1, NAMES)) for draw in (WORLD.on_distribution, WORLD.off_distribution))
    assert torch.equal(on[..., :4], off[..., :4])
    assert torch.equal(on[..., WORLD.cues].abs(), off[..., WORLD.cues].abs())
    # Uniform on [.8, 1.2]: mean 1, sd .4/√12.
    assert (on[..., WORLD.cues].abs().mean((0, 1)) - 1).abs().max() < 4 * 0.4 / (12 * 4 * N) ** 0.5


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 9), st.integers(1, 6), st.sampled_from(["random", "flip"]), st.floats(0, 5), st.data())
def test_questions_stay_in_their_support_whatever_the_stack(core, cues, shift, strength, data) -> None:
    world = spurious.build(core=core, cues=cues, pairs=data.draw(st.integers(1, core // 2)), shift=shift)
    theta = world.teacher(streams(0, NAMES))
    on = world.on_distribution(theta, 30, streams(1, NAMES))
    off = world.off_distribution(theta, 30, streams(1, NAMES), strength)
    for x in (on, off):
        assert x.shape == (4, 30, core + cues) and x.isfinite().all()
        size = x[..., world.cues].abs()
        assert size.shape[-1] == cues and (size >= 0.8 - 1e-6).all() and (size <= 1.2 + 1e-6).all()
    assert torch.equal(world.on_distribution(theta[2:3], 30, [stream(1, "c")])[0], on[2])
    assert torch.equal(world.off_distribution(theta[2:3], 30, [stream(1, "c")], strength)[0], off[2])
    assert torch.equal(world.teacher([stream(0, "c")])[0], theta[2])


@pytest.mark.parametrize(("shift", "low", "high"), [("random", 0.4, 0.7), ("flip", 0.0, 0.1)])
def test_a_human_counts_cues_and_fails_without_them(shift: str, low: float, high: float) -> None:
    world = spurious.build(shift=shift)  # pyright: ignore[reportArgumentType]
    theta_1 = world.teacher(streams(0, NAMES))
    human = descent.build(width=8, steps=600)
    theta_2 = human.train(world, human.init(world, streams(1, NAMES)), theta_1, streams(2, NAMES)).theta
    on, off = (
        (world.human_answer(world.human_net(8), theta_2, x) * world.answer(theta_1, x) > 0).double().mean().item()
        for x in (world.on_distribution(theta_1, 4000, streams(3, NAMES)),
                  world.off_distribution(theta_1, 4000, streams(3, NAMES)))
    )
    assert on > 0.97  # the majority of the cues is right on .9914
    assert low < off < high


def test_every_direction_is_active_on_distribution() -> None:
    theta = WORLD.teacher(streams(0, NAMES))
    assert not WORLD.inactive(theta).any() and WORLD.inactive(theta).shape == (8,)
    x = WORLD.on_distribution(theta, 4000, streams(1, NAMES))
    for i in range(8):
        other = theta.clone()
        other[:, i] += 0.5
        assert (WORLD.answer(other, x) != WORLD.answer(theta, x)).any()


def test_more_directions_than_features_are_refused() -> None:
    with pytest.raises(InputError, match="pairs: got 3; expected at most 2"):
        spurious.build(core=5, pairs=3)
