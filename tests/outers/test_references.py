"""The regressions beside which an in-context learner is judged, where their answers are known."""

import torch

from reuse_sim.outers.references import references, shared_kernel
from reuse_sim.rng import stream


def normal(name: str, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=stream(0, name), dtype=torch.float64)


X, W, ASKED = normal("x", 4, 30, 3), normal("w", 4, 3, 1), normal("asked", 4, 50, 3)


def error(answers: torch.Tensor, truth: torch.Tensor) -> float:
    return float((answers - truth).square().mean() / truth.var())


def test_a_linear_human_is_a_straight_line_to_ridge_and_a_mean_to_chance():
    y, truth = (X @ W)[..., 0], (ASKED @ W)[..., 0]
    found = references(X.float(), y.float(), ASKED.float())
    assert set(found) == {"chance", "ridge", "neighbours", "gaussian_process"}
    assert all(a.shape == (4, 50) and a.dtype == torch.float64 for a in found.values())
    assert error(found["ridge"], truth) < 1e-6
    assert torch.allclose(found["chance"], y.mean(-1, keepdim=True).expand(4, 50), atol=1e-6)
    assert 0.05 < error(found["neighbours"], truth) < 1 <= error(found["chance"], truth)


def test_each_human_is_predicted_from_its_own_examples():
    y = torch.tanh(X @ W)[..., 0]
    for name, answers in references(X, y, X).items():
        if name == "neighbours":  # an example asked about is its own nearest neighbour
            assert torch.allclose(answers, y)
        if name == "gaussian_process":
            assert error(answers, y) < 0.02


def test_the_kernel_is_found_by_all_humans_together():
    """Draws from the process itself: its parameters come out within 4 standard errors by the Fisher information."""
    x, truth = normal("points", 40, 30, 2), torch.tensor([2.0, 0.8, 0.1], dtype=torch.float64).log()

    def covariance(log: torch.Tensor) -> torch.Tensor:
        signal, length, noise = log.exp()
        distances = (x.unsqueeze(1) - x.unsqueeze(2)).square().sum(-1)
        return signal * torch.exp(-distances / (2 * length**2)) + noise * torch.eye(30, dtype=torch.float64)

    y = (torch.linalg.cholesky(covariance(truth)) @ normal("z", 40, 30, 1))[..., 0]
    slopes = torch.stack([(covariance(truth + h) - covariance(truth - h)) / 2e-4 for h in 1e-4 * torch.eye(3)])
    turned = torch.linalg.solve(covariance(truth), slopes)
    information = torch.einsum("ihmn,jhnm->ij", turned, turned) / 2
    errors = information.inverse().diagonal().sqrt()
    assert errors.max() < 0.15
    found = torch.as_tensor(shared_kernel(x.numpy(), y.numpy()).theta)
    assert ((found - truth).abs() < 4 * errors).all()


def test_constant_answers_are_answered():
    for answers in references(X, torch.zeros(4, 30), ASKED).values():
        assert torch.allclose(answers, torch.zeros(4, 50, dtype=torch.float64), atol=1e-6)
