"""Humans beyond one descent: each kind does what it says."""

import math

import pytest
import torch

from reuse_sim.humans import descent, distilled, evolved, selected
from reuse_sim.inheritance.observed import fit, r_squared
from reuse_sim.rng import children, streams
from reuse_sim.worlds import merged_neurons, modular, radius, spurious

NAMES = [str(i) for i in range(4)]
WORLD = radius.build()
TEACHER = WORLD.teacher(streams(0, ["teacher"])).expand(len(NAMES), -1)


def learned(human, world=WORLD, theta_1=TEACHER, off_share=0.0):
    names = NAMES[: len(theta_1)]
    start = human.init(world, streams(1, names))
    return human.train(world, start, theta_1, streams(2, names), off_share)


def test_the_selected_is_the_best_of_its_restarts_on_the_questions_that_decide():
    human = selected.build(width=4, steps=100, rate=0.02, batch=16, restarts=6, exam=300)
    generators = streams(2, NAMES)
    many = human.candidates(WORLD, human.init(WORLD, streams(1, NAMES)), TEACHER, generators)
    errors = human.errors(WORLD, many.theta.unflatten(0, (-1, 6)), TEACHER, generators)
    theta = learned(human).theta
    assert torch.equal(theta, many.theta.unflatten(0, (-1, 6))[range(4), errors.argmin(1)])
    assert (errors.min(1).values <= errors[:, 0]).all() and len(set(errors.argmin(1).tolist())) > 1
    # The first restart is a descent from θ_0, with questions from a stream of its own.
    own = children(streams(2, NAMES), 6)[::6]
    human.init(WORLD, own)
    first = human.each.train(WORLD, human.init(WORLD, streams(1, NAMES)), TEACHER, own)
    assert torch.allclose(first.theta, many.theta[::6], atol=1e-5)


def test_one_that_broke_is_not_chosen_while_another_did_not():
    human = selected.build(width=4, restarts=3)
    theta = torch.randn(2, 3, human.net(WORLD).p, generator=streams(0, ["theta"])[0])
    theta[0, 1] = torch.nan
    errors = human.errors(WORLD, theta, TEACHER[:2], streams(0, NAMES[:2]))
    assert errors[0, 1] == torch.inf and errors.isfinite().sum() == 5


def test_elders_together_know_more_than_each_and_the_human_says_what_they_would():
    world, learns = modular.build(form="sum", p=7, held_out=3), {"width": 24, "steps": 1000, "examples": 500}
    human = distilled.build(**learns, elders=8, elder_width=16, elder_steps=400, elder_rate=0.02)
    theta_1 = world.teacher(streams(0, NAMES))
    elders = human.raise_elders(world, theta_1, streams(2, NAMES)).theta.unflatten(0, (-1, 8))
    theta = learned(human, world, theta_1).theta
    off = world.off_distribution(theta_1, 400, streams(3, NAMES))
    truth, net = world.answer(theta_1, off), human.elder.net(world)
    each = world.human_answer(net, elders, off.unsqueeze(1))
    mean, answer = each.mean(1), world.human_answer(human.net(world), theta, off)
    # Squared error of a mean is below the mean squared error, by the variance among elders.
    spread = each.var(1, correction=0).mean()
    assert (mean - truth).square().mean() == pytest.approx(
        float((each - truth.unsqueeze(1)).square().mean() - spread), rel=1e-4
    )
    assert spread > 0.05
    assert r_squared(answer, mean) > 0.95 and r_squared(answer, truth) < r_squared(answer, mean) - 0.2
    family = distilled.Family(world, net, theta_1.shape[1])
    told = torch.cat([theta_1, elders.flatten(1)], dim=1)
    assert torch.allclose(family.answer(told, off), mean, atol=1e-5)


def test_the_distilled_never_see_the_truth_off_distribution():
    """A world that is another off-distribution, and the same where elders learn, has the same human."""

    class Elsewhere(radius.Radius):
        def answer(self, theta_teacher, x):
            return super().answer(theta_teacher, x) * torch.where(x.norm(dim=-1) > radius.BALL + 1e-4, -1.0, 1.0)

    human = distilled.build(width=4, steps=50, elders=2, elder_width=6, elder_steps=50, examples=100)
    assert torch.equal(learned(human).theta, learned(human, Elsewhere()).theta)
    assert not torch.equal(learned(human, off_share=0.5).theta, learned(human, Elsewhere(), off_share=0.5).theta)


@pytest.mark.parametrize("goal", ["error", "wrong"])
def test_evolution_lowers_what_it_is_bred_against(goal):
    human = evolved.build(width=4, generations=150, offspring=16, goal=goal)
    theta = learned(human).theta
    x = WORLD.on_distribution(TEACHER, 2000, streams(3, NAMES))
    missed = [
        WORLD.human_answer(human.net(WORLD), t, x) - WORLD.answer(TEACHER, x)
        for t in (human.init(WORLD, streams(1, NAMES)), theta)
    ]
    before, after = (m.square().mean(1) if goal == "error" else evolved.wrong(m, WORLD.tolerance) for m in missed)
    assert (after < 0.9 * before).all()


def test_evolution_counts_wrong_answers_in_a_classification_by_their_sign():
    human, world = evolved.build(width=6, generations=150, goal="wrong"), spurious.build()
    theta_1 = world.teacher(streams(0, NAMES))
    theta = learned(human, world, theta_1).theta
    x = world.on_distribution(theta_1, 3000, streams(3, NAMES))
    answer, truth = world.human_answer(human.net(world), theta, x), world.answer(theta_1, x)
    share = evolved.wrong(answer - truth, world.tolerance)
    assert torch.allclose(share, (answer * truth <= 0).float().mean(1))
    # Five cues tell all but .86 % of the answers.
    assert fit("classification", answer, truth) > 0.95


def test_evolution_finds_a_minimum_that_is_known_whatever_its_scales():
    """An ellipsoid with axes of 1 to 30 about a point 2 sd away, known to 1e-6 after 400 generations."""
    p, names = 6, NAMES
    goal = 2 * torch.arange(1.0, p + 1, dtype=torch.float64).cos()
    axes = 30 ** torch.linspace(0, 1, p, dtype=torch.float64)

    def badness(theta):
        return (axes * (theta - goal)).square().sum(-1)

    found = evolved.evolve(
        badness, torch.zeros(4, p, dtype=torch.float64), torch.ones(p).double(), streams(0, names), 400, 16
    )
    assert (found.theta - goal).abs().max() < 1e-6 and (found.loss < 1e-8).all() and not found.broken


def test_who_breaks_keeps_where_it_was_and_the_others_go_on():
    def badness(theta):
        value = theta.square().sum(-1)
        return torch.where(torch.arange(2).unsqueeze(1) == 0, torch.nan, value)

    found = evolved.evolve(badness, torch.ones(2, 3), torch.ones(3), streams(0, NAMES[:2]), 60, 8)
    assert list(found.broken) == [0] and "generation 0" in found.broken[0]
    assert torch.equal(found.theta[0], torch.ones(3)) and found.theta[1].abs().max() < 0.1


def test_a_repaired_twin_of_any_kind_goes_on_from_its_human():
    """After no more than a step of it, whoever was many is still the one it became."""
    for kind in (
        selected.build(width=4, steps=1, rate=1e-9, restarts=3),
        distilled.build(width=4, steps=1, rate=1e-9, elders=2, elder_steps=1),
    ):
        theta = kind.init(WORLD, streams(5, NAMES))
        twin = kind.train(WORLD, theta, TEACHER, streams(2, NAMES), 0.5).theta
        assert torch.allclose(twin, theta, atol=1e-6)


def test_what_training_costs_is_counted():
    """6 p per question, 2 p per answer alone; p = 6·4 + 1 for radius at width 4, and 7·6 + 1 with elders of 7 units."""
    one = 6 * 25 * 10 * 8
    assert descent.build(width=4, steps=10, batch=8).train_flops(WORLD) == one
    assert selected.build(width=4, steps=10, batch=8, restarts=3, exam=20).train_flops(WORLD) == 3 * (one + 2 * 25 * 20)
    elders = distilled.build(
        width=4, steps=10, batch=8, elders=2, elder_width=7, elder_steps=5, examples=16, elder_rate=0.1
    )
    assert elders.train_flops(WORLD) == 2 * 6 * 43 * 5 * 8 + 32 * 2 * 2 * 43 + 2 * one
    breeding = evolved.build(width=4, generations=10, offspring=6, batch=8)
    assert breeding.train_flops(WORLD) == 2 * 25 * 8 * 6 * 10
    # The kernel of 3 units with 3 units and 5 inputs is 3 · 8 products of length 5, forth and back.
    stuck = merged_neurons.build(d=5)
    assert descent.build(width=3, steps=10).train_flops(stuck) == 3 * 2 * 3 * 8 * 5 * 10
    assert descent.build(width=3, steps=10, batch=8, examples=64).train_flops(stuck) == 6 * 15 * 8 * 10


def test_children_are_their_parents_own_and_differ():
    few, many = (children(streams(0, names), 3) for names in (["a"], ["a", "b"]))
    draws = [torch.rand(1, generator=g).item() for g in (*few, *many)]
    assert draws[:3] == draws[3:6] and len(set(draws)) == 6
    assert not math.isclose(draws[0], torch.rand(1, generator=streams(0, ["a"])[0]).item())
