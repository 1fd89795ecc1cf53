"""The probe on hidden units of which it is known what stands in them."""

import pytest
import torch

from reuse_sim.errors import InputError
from reuse_sim.inheritance import probe
from reuse_sim.inheritance.observed import r_squared
from reuse_sim.rng import stream


def questions(name: str, n: int, spread: float) -> torch.Tensor:
    return spread * torch.randn(2, n, 3, generator=stream(0, name), dtype=torch.float64)


def teacher(x: torch.Tensor) -> torch.Tensor:
    return x[..., 0] + 0.1 * x[..., 1] ** 2


def human(x: torch.Tensor) -> torch.Tensor:
    """Right where |x_0| is small, as most on-distribution, and flat beyond."""
    return x[..., 0].clamp(-1.5, 1.5) + 0.1 * x[..., 1] ** 2


ON, OFF = questions("on", 400, 1.0), questions("off", 500, 4.0)


def hidden(*units: torch.Tensor) -> torch.Tensor:
    return torch.stack(units, dim=-1)


def test_what_stands_in_the_hidden_units_is_read_though_the_head_says_the_human():
    """Hidden (f, H), mixed by a fixed matrix, under a head that reads H alone: knows f and does not say it."""
    mix = torch.tensor([[2.0, -1.0], [0.3, 1.5]], dtype=torch.float64)
    on, off = (hidden(teacher(x), human(x)) @ mix for x in (ON, OFF))
    fit = probe.probe(on, teacher(ON), off, teacher(OFF))
    assert fit == pytest.approx(1.0, abs=1e-6)
    said = float(r_squared(human(OFF), teacher(OFF)))
    assert said < 0.9 and probe.unsaid(fit, said) == pytest.approx(1.0, abs=1e-5)


def test_what_was_never_learned_is_not_read():
    """Hidden (H, noise): the probe knows what H explains of f on-distribution, and no more."""
    on, off = (hidden(human(x), torch.randn(x.shape[:-1], generator=stream(0, name), dtype=x.dtype))
               for x, name in ((ON, "a"), (OFF, "b")))
    fit = probe.probe(on, teacher(ON), off, teacher(OFF))
    x = torch.stack([human(ON).flatten(), torch.ones(800, dtype=torch.float64)], dim=-1)
    slope, offset = torch.linalg.lstsq(x, teacher(ON).flatten()).solution
    explained = float(r_squared(slope * human(OFF) + offset, teacher(OFF)))
    # Noise of sd 1 gets a weight of order sd(residual) / √800 and adds its square to the error.
    assert fit == pytest.approx(explained, abs=0.01)
    assert abs(probe.unsaid(fit, float(r_squared(human(OFF), teacher(OFF))))) < 0.1


def test_one_probe_reads_all_humans_and_its_scale_does_not_matter():
    on, off = hidden(teacher(ON), human(ON)), hidden(teacher(OFF), human(OFF))
    answers = probe.read(on, teacher(ON), off)
    assert answers.shape == OFF.shape[:2] and answers.dtype == torch.float64
    assert torch.allclose(probe.read(1e-3 * on.float(), teacher(ON), 1e-3 * off.float()), answers, atol=1e-4)
    # Humans whose f goes opposite ways through the same unit: what holds for both at once is nothing.
    turned = torch.tensor([1.0, -1.0], dtype=torch.float64)[:, None]
    opposite = probe.read(hidden(ON[..., 0]), turned * ON[..., 0], hidden(OFF[..., 0]))
    assert float(opposite.square().mean()) < 0.05 * float(OFF[..., 0].square().mean())


def test_what_fits_by_chance_is_held_by_the_penalty():
    """95 units of noise fit a hundred answers nearly; least squares would err by 95 / 5 of their variance elsewhere."""
    noise = torch.randn(1, 200, 95, generator=stream(0, "n"), dtype=torch.float64)
    truth = torch.randn(1, 100, generator=stream(0, "f"), dtype=torch.float64)
    answers = probe.read(noise[:, :100], truth, noise[:, 100:])
    assert float((answers - truth.mean()).square().mean()) < 0.5 * float(truth.var())


def test_units_that_never_stir_give_the_mean():
    still = torch.ones(1, 40, 3)
    truth = torch.randn(1, 40, generator=stream(0, "t"))
    answers = probe.read(still, truth, still)
    assert torch.allclose(answers, truth.double().mean().expand(1, 40))


def test_answers_that_lack_nothing_leave_nothing_unsaid():
    with pytest.raises(InputError):
        probe.unsaid(1.0, 1.0)
