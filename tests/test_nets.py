"""Flat θ against plain loops, and the symmetries that a perceptron must have."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from reuse_sim.nets import Mlp
from reuse_sim.rng import streams

shapes = st.builds(
    Mlp,
    st.lists(st.integers(1, 7), min_size=2, max_size=4).map(tuple),
    st.sampled_from(["tanh", "relu"]),
    st.booleans(),
)


def draw(net: Mlp, n: int) -> torch.Tensor:
    return net.init(streams(0, [str(i) for i in range(n)]), torch.float64)


@given(shapes)
def test_views_cover_theta_once_and_in_order(net):
    theta = torch.arange(net.p).expand(2, net.p)
    flat = torch.cat([v.flatten(1) for v in net.views(theta).values()], dim=1)
    assert torch.equal(flat, theta)


@given(shapes)
def test_a_stack_answers_as_each_network_alone(net):
    theta, x = draw(net, 3), torch.randn(3, 5, net.sizes[0], dtype=torch.float64, generator=streams(0, ["x"])[0])
    stacked = net.forward(theta, x)
    for i in range(3):
        h = x[i]
        v = {name: part[i] for name, part in net.views(theta).items()}
        for layer in range(len(net.sizes) - 1):
            h = torch.nn.functional.linear(h, v[f"weight{layer}"], v.get(f"bias{layer}"))
            if layer < len(net.sizes) - 2:
                h = torch.tanh(h) if net.activation == "tanh" else torch.relu(h)
        assert torch.allclose(stacked[i], h, rtol=0, atol=1e-12)


@given(st.permutations(range(5)), st.lists(st.sampled_from([-1.0, 1.0]), min_size=5, max_size=5))
def test_permuting_and_flipping_odd_units_changes_no_answer(order, signs):
    net = Mlp((3, 5, 2), "tanh")
    theta = draw(net, 1)
    v, sign = net.views(theta), torch.tensor(signs, dtype=torch.float64)
    parts = [
        (v["weight0"] * sign[:, None])[:, list(order)].flatten(1),
        (v["bias0"] * sign)[:, list(order)].flatten(1),
        (v["weight1"] * sign)[:, :, list(order)].flatten(1),
        v["bias1"].flatten(1),
    ]
    x = torch.randn(9, 3, dtype=torch.float64, generator=streams(0, ["x"])[0])
    assert torch.allclose(net.forward(torch.cat(parts, 1), x), net.forward(theta, x), atol=1e-12)


def test_the_initialisation_prior_has_the_stated_spread():
    net = Mlp((4, 6, 1), "relu")
    theta = draw(net, 4000)
    error = net.prior_sd(torch.float64) / (2 * 4000) ** 0.5  # of a normal sample's standard deviation
    assert ((theta.std(0) - net.prior_sd(torch.float64)).abs() < 5 * error).all()
