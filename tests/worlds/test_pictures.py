"""Pictures of worlds: what lies where in them, and which of it was learned."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from reuse_sim.rng import stream
from reuse_sim.testing.worlds import check_picture
from reuse_sim.types import Picture
from reuse_sim.worlds import (
    boolean,
    digits,
    finite,
    linear,
    linear_gaussian,
    merged_neurons,
    modular,
    polynomial,
    radius,
    spurious,
)

GRID = torch.arange(-20, 21, dtype=torch.float64)
"""Steps of a plane from its middle."""


def drawn(world: Any, theta: Tensor | None = None) -> tuple[Tensor, Picture, Tensor]:
    """A teacher in float64, its picture, and its answers to it."""
    theta = world.teacher([stream(0, "teacher")])[0].double() if theta is None else theta.double()
    picture = world.picture(theta)
    answers = world.answer(theta[None], picture.x.flatten(0, 1)[None])
    return theta, picture, answers.unflatten(-1, picture.x.shape[:2])[0]


@pytest.mark.parametrize("world", [
    radius.build(sines=1),
    merged_neurons.build(d=2), merged_neurons.build(d=50),
    spurious.build(core=6, pairs=3, cues=1), spurious.build(cues=100, agreement=1.0),
    modular.build(d=2), modular.build(d=20, frequency=9.0),
    modular.build(form="sum"), modular.build(form="sum", p=53),
    polynomial.build(seen=1), polynomial.build(seen=1, hidden=1), polynomial.build(seen=2, hidden=2, shift="hidden"),
    boolean.build(n=6, terms=5), boolean.build(grade="needle"), boolean.build(n=16, grade="staircase"),
    digits.build(steps=5, shift="occlusion"), digits.build(steps=5, shift="contrast"),
    linear.build(d=2, active=1), linear_gaussian.build(d=2, active=1), finite.build(symbol_bits=0),
], ids=repr)
def test_worlds_of_other_sizes_have_pictures_too(world: Any) -> None:
    theta = world.teacher([stream(0, "teacher")])[0]
    check_picture(world, theta)
    picture = world.picture(theta)
    assert picture.learned.numel() <= 41 * 41


def test_in_the_radius_world_the_ball_is_learned() -> None:
    for dtype in (torch.float32, torch.float64):
        world = radius.build()
        picture = world.picture(world.teacher([stream(0, "teacher")])[0].to(dtype))
        expected = torch.stack([GRID.expand(41, -1), GRID.unsqueeze(1).expand(-1, 41)], -1) / 5
        torch.testing.assert_close(picture.x[..., :2].double(), expected, atol=1e-6, rtol=0)
        assert (picture.x[..., 2:] == 0).all() and picture.columns == picture.rows == (GRID / 5).tolist()
        assert torch.equal(picture.learned, GRID**2 + GRID.unsqueeze(1) ** 2 <= 100)


def test_a_direction_that_a_human_lacks_is_a_row() -> None:
    world = merged_neurons.build(d=6, reach=3.0)
    theta, picture, f = drawn(world)
    apart = 3 * (1 - torch.eye(6, dtype=torch.float64))
    torch.testing.assert_close(f, (apart - 6 / math.sqrt(2 * math.pi)) / world.sd, atol=1e-6, rtol=0)
    without = theta.clone()
    without[12:18] = 0
    h = world.human_answer(world.human_net(6), without, picture.x)
    expected = torch.zeros(6, 6, dtype=torch.float64)
    expected[2] = -apart[2] / world.sd
    torch.testing.assert_close(h - f, expected, atol=1e-6, rtol=0)
    assert not picture.learned.any()


@pytest.mark.parametrize("cues", [4, 5])
def test_answers_are_columns_and_cues_are_rows(cues: int) -> None:
    world = spurious.build(cues=cues)
    _, picture, f = drawn(world)
    angle = torch.tensor(picture.columns, dtype=torch.float64).deg2rad()
    assert torch.equal(f, torch.sin(2 * angle).sign().expand_as(f)) and f.unique(dim=0).shape[0] == 1
    said = picture.x[..., world.cues]
    assert (said.abs() == 1).all() and (said > 0).sum(-1).unique(dim=1).flatten().tolist() == list(picture.rows)
    # Most agree: of 4 cues three, of 5 too.
    assert torch.equal(picture.learned, (said == f.unsqueeze(-1)).sum(-1) >= 3)


def test_the_cosines_plane_is_the_cube_and_waves() -> None:
    theta, picture, f = drawn(modular.build(d=3), torch.tensor([4.0, 0.0, 0.0, 0.5]))
    assert torch.equal(picture.learned, (GRID.abs() <= 8) & (GRID.abs() <= 8).unsqueeze(1))  # 8 steps of 1/8
    mean = math.cos(0.5) * math.sin(4) / 4
    sd = math.sqrt((1 + math.cos(1) * math.sin(8) / 8) / 2 - mean**2)
    torch.testing.assert_close(f, ((torch.cos(GRID / 2 + 0.5) - mean) / sd).expand_as(f), atol=1e-6, rtol=0)
    # Whatever w is: f is the same all the way down.
    theta, picture, f = drawn(modular.build())
    assert torch.allclose(f, f[:1].expand_as(f), atol=1e-6)
    w = theta[:4] / theta[:4].norm()
    torch.testing.assert_close(picture.x @ w, (GRID / 8).expand(41, -1), atol=1e-6, rtol=0)


def test_the_table_of_sums_has_the_seen_pairs() -> None:
    world = modular.build(form="sum", p=11, held_out=3)
    assert isinstance(world, modular.Sum)
    theta, picture, f = drawn(world)
    assert picture.learned.nonzero().tolist() == world.pairs(False).tolist()
    a, b = picture.x.unflatten(-1, (2, 11)).argmax(-1).unbind(-1)
    number = torch.arange(11)
    assert torch.equal(a, number.unsqueeze(1).expand(-1, 11)) and torch.equal(b, number.expand(11, -1))
    expected = math.sqrt(2) * torch.cos(2 * math.pi / 11 * theta[0] * (a + b) + theta[1])
    torch.testing.assert_close(f, expected, atol=1e-5, rtol=0)


def test_what_is_learned_of_a_polynomial_is_a_ball_with_nothing_hidden() -> None:
    # 95 % of N(0, I) in two dimensions lie within √(−2 ln .05), of N(0, 1) within 1.96.
    _, picture, _ = drawn(polynomial.build(seen=2))
    square = (GRID**2 + GRID.unsqueeze(1) ** 2) * (2.25 / 20) ** 2 * 2
    assert torch.equal(picture.learned, square <= -2 * math.log(0.05))
    for shift, reach in (("further", 2.25), ("hidden", 3.0)):
        _, picture, _ = drawn(polynomial.build(seen=1, hidden=1, shift=shift))  # pyright: ignore[reportArgumentType]
        assert torch.equal(picture.learned, (GRID.abs() * reach / 20 <= 1.95996) & (GRID == 0).unsqueeze(1))


def test_the_rare_combination_is_the_last_row_and_rises() -> None:
    _, picture, f = drawn(boolean.build())
    assert picture.rows[-1] == "+++" and len(set(picture.rows)) == 8
    for row, name in enumerate(picture.rows):
        triple = torch.tensor([1.0 if sign == "+" else -1.0 for sign in name]).double()
        assert torch.equal(picture.x[row, :, :3], triple.expand(40, 3))
        assert torch.equal(picture.x[row, :, 3:], picture.x[0, :, 3:])
        assert picture.learned[row].unique().tolist() == [name != "+++"]
    assert (f[-1].diff() >= 0).all() and f[-1, -1] > f[-1, 0] and len(picture.x[-1].unique(dim=0)) == 40
    # With three other features there are eight settings, and all are there.
    _, picture, _ = drawn(boolean.build(n=6, terms=5))
    assert len(picture.x.flatten(0, 1).unique(dim=0)) == 64


@pytest.mark.parametrize("shift", ["rotation", "occlusion", "contrast"])
def test_digits_are_shifted_from_row_to_row_and_by_nothing_else(shift: digits.Shift) -> None:
    world = digits.build(width=4, steps=1, shift=shift)
    picture = world.picture(world.teacher([stream(0, "teacher")])[0])
    images, numbers = digits._data()
    assert numbers[:10].tolist() == [int(name) for name in picture.columns]
    x, plain = picture.x.unflatten(-1, (8, 8)), images[:10]
    assert torch.allclose(x[0], plain, atol=1e-5) and picture.rows[0] == 0 and picture.rows[-1] == 1
    assert picture.learned[0].all() and not picture.learned[1:].any()
    if shift == "rotation":
        turned = digits._moved(plain, torch.zeros(10, 2), torch.full((10,), 5 * math.pi / 12))
        assert torch.allclose(x[-1], turned, atol=1e-5)
    if shift == "occlusion":  # 5 pixels in the middle of 8: from 1.5 to 6.5
        left = torch.tensor([0, 0.5, 1, 1, 1, 1, 0.5, 0])
        assert torch.allclose(x[-1], plain * (1 - left * left.unsqueeze(1)), atol=1e-5)
    if shift == "contrast":
        assert torch.allclose(x[10], plain * (1 - 0.95 / 2), atol=1e-5)


@pytest.mark.parametrize("build", [linear.build, linear_gaussian.build])
def test_of_linear_worlds_a_line_is_learned(build: Any) -> None:
    world = build(d=5, active=3)
    theta, picture, f = drawn(world)
    seen, unseen = theta[:3].norm(), theta[3:].norm()
    form = (seen * GRID + unseen * GRID.unsqueeze(1)) * 3 / 20
    torch.testing.assert_close(picture.x @ theta, form, atol=1e-6, rtol=0)
    apart = form.abs() > 1e-6
    torch.testing.assert_close(f[apart], form[apart] if build is linear_gaussian.build else form[apart].sign())
    assert torch.equal(picture.learned, (GRID == 0).unsqueeze(1).expand(-1, 41))
    assert (picture.x[picture.learned][:, 3:] == 0).all()


def test_the_finite_worlds_picture_is_the_whole_table() -> None:
    theta, picture, f = drawn(finite.build())
    assert len(picture.x.flatten(0, 1).unique(dim=0)) == 8
    assert sorted(f.flatten().tolist()) == sorted(theta.tolist())
    assert f[0].tolist() == theta[[0, 2, 4, 6]].tolist() and f[1].tolist() == theta[[1, 3, 5, 7]].tolist()
    on = finite.build().on_distribution(theta[None], 200, [stream(0, "x")])[0]
    assert torch.equal(on.unique(dim=0), picture.x[picture.learned].unique(dim=0))
