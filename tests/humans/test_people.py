"""Who is drawn and trained: by name, so that nobody depends on who else is there."""

import pytest
import torch

from reuse_sim.humans import descent
from reuse_sim.humans.people import Population, train
from reuse_sim.inheritance.observed import r_squared
from reuse_sim.rng import streams
from reuse_sim.worlds import merged_neurons, radius

WORLD, HUMAN = radius.build(), descent.build(width=3, steps=20, rate=0.01, batch=8)


def people(seed: int = 0, **population):
    return train(WORLD, HUMAN, Population(**{"humans": 3, "siblings": 3, **population}), 0.5, seed)[0]


def test_nobody_depends_on_who_else_is_there():
    few, many = people(humans=1, siblings=3), people(humans=3, siblings=4)
    # 20 steps in float32 on stacks of other sizes.
    assert torch.allclose(few.theta_human[:, 0], many.theta_human[:, 0], atol=1e-5)
    assert torch.allclose(few.theta_siblings[:, :3, 0], many.theta_siblings[:, :3, 0], atol=1e-5)
    assert torch.allclose(few.theta_repaired[:, 0], many.theta_repaired[:, 0], atol=1e-5)


def test_worlds_people_and_seeds_differ():
    one, other = people(0), people(1)
    rows = [
        one.theta_human[0, 0],
        one.theta_human[1, 0],
        one.theta_human[0, 1],
        one.theta_siblings[0, 0, 0],
        one.theta_siblings[0, 1, 0],
        one.theta_repaired[0, 0],
        other.theta_human[0, 0],
    ]
    assert all(not torch.allclose(a, b, atol=1e-3) for i, a in enumerate(rows) for b in rows[:i])


@pytest.mark.parametrize(("teachers", "different"), [(1, 1), (2, 2), ("each", 5), (7, 5)])
def test_humans_share_the_teachers_out_among_them(teachers, different):
    world = people(teachers=teachers, humans=3, held_out=2)
    assert len(world.theta_teacher[0].unique(dim=0)) == different
    assert not torch.equal(world.theta_teacher[0], world.theta_teacher[1])
    assert world.theta_siblings.shape[:3] == (2, 3, 2)  # held-out humans are the measured ones


@pytest.mark.slow
def test_a_human_learns_its_teacher_and_a_repaired_twin_mends_off_distribution():
    """The stuck human of the merged-neurons world: right on-distribution, wrong off it, and mended by its twin."""
    world, human = merged_neurons.build(d=12), descent.build(width=12, steps=800)
    both = [train(world, human, Population(siblings=3), 0.5, seed)[0] for seed in range(4)]
    net = world.human_net(12)
    fits = []
    for who in both:
        theta_1 = who.theta_teacher[0]
        on = world.on_distribution(theta_1, 2000, streams(0, ["on"]))
        off = world.off_distribution(theta_1, 2000, streams(0, ["off"]))
        fits.append(
            [
                float(r_squared(world.human_answer(net, t, x), world.answer(theta_1, x)))
                for t, x in ((who.theta_human[0], on), (who.theta_human[0], off), (who.theta_repaired[0], off))
            ]
        )
    on, off, mended = torch.tensor(fits).mean(0)
    assert on > 0.95 and off < on - 0.2 and mended > off + 0.2


def test_a_repaired_twin_starts_from_its_human():
    still = descent.build(width=3, steps=1, rate=1e-9, batch=8)
    world = train(WORLD, still, Population(siblings=3), 0.5, 0)[0]
    assert torch.allclose(world.theta_repaired[:, 0], world.theta_human[:, 0], atol=1e-6)
