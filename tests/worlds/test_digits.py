"""Real images: what a shift does to them, and that humans who never saw it are the worse for it."""

import pytest
import torch

from reuse_sim.humans import descent
from reuse_sim.inheritance.observed import accuracy
from reuse_sim.rng import stream, streams
from reuse_sim.worlds import digits
from reuse_sim.worlds.digits import _covered, _moved

WORLD = digits.build(width=32, steps=300)


def test_the_images_are_those_of_scikit_learn():
    images, numbers = digits._data()
    assert images.shape == (1797, 8, 8) and images.min() == 0 and images.max() == 1
    assert torch.bincount(numbers).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_strength_nought_is_no_shift():
    plain, truth = digits.questions(50, stream(0, "q"))
    for shift in WORLD.shifts:
        x, y = digits.questions(50, stream(0, "q"), shift, 0.0)
        assert torch.allclose(x, plain, atol=1e-6) and torch.equal(y, truth)


def test_labels_are_true_of_the_images_beside_them():
    for strength, shift in ((None, None), (0.5, WORLD.shift)):
        x, truth = WORLD.labelled(50, streams(0, ["a", "b"]), strength)
        expected = [digits.questions(50, g, shift, strength or 0.0) for g in streams(0, ["a", "b"])]
        assert torch.equal(x, torch.stack([e[0] for e in expected]))
        assert torch.equal(truth, torch.stack([e[1] for e in expected])) and truth.abs().unique().tolist() == [1]


def test_a_quarter_turn_is_one():
    image = torch.rand(1, 8, 8, generator=stream(0, "image"))
    turned = _moved(image, torch.zeros(1, 2), torch.tensor([torch.pi / 2]))
    assert torch.allclose(turned, image.rot90(1, (1, 2)), atol=1e-4) or torch.allclose(
        turned, image.rot90(-1, (1, 2)), atol=1e-4
    )


@pytest.mark.parametrize("side", [0.0, 2.5, 5.0, 8.0, 11.0])
def test_a_square_of_that_side_is_covered(side):
    left = _covered(torch.ones(200, 8, 8), torch.rand(200, 2, generator=stream(0, "corner")), side)
    assert torch.allclose((1 - left).sum((1, 2)), torch.full((200,), min(side, 8.0) ** 2), atol=1e-3)
    assert left.min() >= 0 and left.max() <= 1


def test_contrast_leaves_its_share_of_ink():
    plain, _ = digits.questions(20, stream(0, "q"))
    faded, _ = digits.questions(20, stream(0, "q"), "contrast", 0.5)
    assert torch.allclose(faded, plain * (1 - digits.FADE / 2), atol=1e-6)


def test_the_teacher_is_better_off_distribution_than_a_human_who_is_as_good_on_it():
    """Both against what is true of the image; four humans, 2,000 images each: standard errors are below .012."""
    world = digits.build(steps=600)
    theta_1 = world.teacher(streams(0, ["teacher"])).expand(4, -1)
    human = descent.build(width=24, steps=600, rate=0.01, batch=64)
    names = [str(i) for i in range(4)]
    theta_2 = human.train(world, human.init(world, streams(1, names)), theta_1, streams(2, names)).theta
    found = {}
    for shift in (None, *world.shifts):
        x, truth = digits.questions(2000, stream(3, "q"), shift)
        f = world.answer(theta_1[:1], x[None])
        h = world.human_answer(world.human_net(24), theta_2, x.expand(4, -1, -1))
        found[shift] = accuracy(f, truth[None]), accuracy(h, truth.expand(4, -1))
    on_teacher, on_human = found.pop(None)
    assert on_teacher > 0.95 and on_human > on_teacher - 0.05
    for teacher, human_off in found.values():
        assert teacher > human_off + 0.08
        assert human_off < on_human - 0.1
