"""The experiment of the ledger: charts and coarse teachers against what they stand for, and entries that add up."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from reuse_sim.artifacts import Store
from reuse_sim.errors import InputError
from reuse_sim.experiments import ledger, ledger_entries, teacher_codes
from reuse_sim.experiments.teacher_size import deming
from reuse_sim.rng import stream, streams
from reuse_sim.types import Estimate
from reuse_sim.worlds import digits, radius


def config(**given) -> ledger.Config:
    asked = {"world": {"use": "radius", "sines": 2}, "human": {"use": "descent", "width": 3, "steps": 60},
             "questions": 24, "tolerance": 0.9, "family": 16, "effort": 0.1, "descent": 20, **given}
    return ledger.Config.model_validate(asked)


@pytest.mark.parametrize("sines", [1, 3, 8])
def test_the_free_coordinates_of_sums_of_sines_say_all_there_is(sines: int) -> None:
    world = radius.build(sines=sines)
    theta = world.teacher(streams(0, ["a", "b", "c"]))
    chart = teacher_codes.chart(world)
    free = chart.free(theta)
    waves = free.unflatten(-1, (sines, 6))
    assert free.shape == (3, 6 * sines)  # mean and sd follow
    assert bool((waves[..., 0] >= 0).all() and (waves[..., 5] > 0).all())
    assert bool(((waves[..., 4] >= 0) & (waves[..., 4] < 2 * math.pi)).all())
    x = world.on_distribution(theta, 64, streams(1, ["a", "b", "c"])).double()
    assert torch.allclose(world.answer(chart.theta(free), x), world.answer(theta.double(), x), atol=2e-5)
    # In any order.
    order = torch.randperm(sines, generator=stream(0, "order"))
    turned = chart.theta(waves[:, order].flatten(-2))
    assert torch.allclose(world.answer(turned, x), world.answer(theta.double(), x), atol=2e-5)
    assert len(chart.units(free[0])) == sines


def test_mean_and_sd_of_stacks_are_the_worlds_own() -> None:
    g = stream(0, "waves")
    w, b, a = (torch.randn(4, 5, *shape, generator=g, dtype=torch.float64) for shape in ((4,), (), ()))
    w = 1.6 * w / w.norm(dim=-1, keepdim=True)  # longer than any teacher's
    mean, sd = teacher_codes.standard(w, b, a)
    for i in range(4):
        m, s = radius.moments(w[i], b[i], a[i])
        assert float(mean[i]) == pytest.approx(float(m), abs=1e-7) and float(sd[i]) == pytest.approx(float(s), abs=1e-7)
    k = torch.linspace(0, 5, 50, dtype=torch.float64)[:, None] * torch.tensor([1.0, 0, 0, 0], dtype=torch.float64)
    assert torch.allclose(teacher_codes.mean_cosine(k), radius.mean_cosine(k), atol=1e-8)


def test_coarse_teachers_are_as_many_as_their_length_says() -> None:
    world = radius.build(sines=1)
    several = torch.cat([teacher_codes.coarse(world, stream(s, "coarse")) for s in range(2000)])
    kinds = len(several.mul(1e4).round().unique(dim=0))
    assert kinds == 160 and teacher_codes.coarse_bits(world) == math.ceil(math.log2(160))
    many = radius.build(sines=5)
    assert teacher_codes.coarse_bits(many) == math.ceil(math.log2(math.comb(40, 5)) + 10)
    theta = teacher_codes.coarse(many, stream(0, "coarse"))
    assert torch.allclose(theta[0, :20].view(5, 4).norm(dim=1), torch.tensor(teacher_codes.LENGTH))
    x = many.on_distribution(theta, 20_000, [stream(0, "x")])
    answers = many.answer(theta, x)
    assert abs(float(answers.mean())) < 0.03 and float(answers.std()) == pytest.approx(1, abs=0.03)


def test_of_trained_teachers_no_mean_is_told() -> None:
    world = digits.build(width=2, steps=3)
    mean, sd = teacher_codes.spread(world, 4)
    assert float(mean.abs().max()) == 0 and sd.shape == (world.net.p,) and float(sd.min()) > 0
    mean, sd = teacher_codes.spread(radius.build(sines=1), 64)
    assert float(mean[5]) == pytest.approx(1, abs=0.1) and float(sd[5]) == pytest.approx(0.6 / 12**0.5, abs=0.05)


def test_entries_add_up_and_arms_share_their_stages(tmp_path) -> None:
    store = Store(tmp_path)
    arms = {"generic": config(), "wider": config(human={"use": "descent", "width": 4, "steps": 60}),
            "coarse": config(teacher="coarse")}
    ledger.check(arms)
    found = ledger.cell(arms, 0, store)
    assert store.computed == 2 + 3 + 3 + 3 + 1 + 2 + 1  # teachers, humans, S, their codes, family, f's codes and mass
    for name, measured in found.items():
        m, said = measured.metrics, measured.diagnostics
        assert m["ledger/reuse_bits"] == m["ledger/human_bits"] + 1
        assert m["ledger/plain_bits"] == m["ledger/teacher_bits"] + m["ledger/human_bits"] + 1
        assert m["ledger/intended_bits"] == pytest.approx(m["ledger/plain_bits"] - m["specialness/bits"])
        profit = m["specialness/bits"] - m["ledger/teacher_bits"]
        assert m["ledger/profit_bits"] == pytest.approx(profit) and m["ledger/pays"] == (profit >= 0)
        assert m["ledger/reuse_shorter"] == 1
        mass = said["teacher"]["mass"]
        assert (mass is None) == (name == "coarse") and m["ledger/teacher_mass_bits"] == mass
        if mass is not None:
            assert m["ledger/mass_profit_bits"] == pytest.approx(m["specialness/bits"] - mass)
            # No message is shorter than the mass by more than a Gaussian's share of luck.
            assert mass < m["ledger/teacher_bits"] + 3
        written = [bits + which for code, which in ledger_entries.WHICH.items()
                   if (bits := said["human"][code]) is not None]
        assert min(written) - said["human"]["copies"] <= m["ledger/human_bits"] <= min(written)
        whole = m["human/consistent"] == 1 and said["specialness"]["status"] == "converged"
        assert (measured.status == "ok") == whole
        assert all(n in measured.reason for n, v in m.items() if v is None), name
    assert found["generic"].metrics["ledger/teacher_bits"] == found["wider"].metrics["ledger/teacher_bits"]
    assert found["coarse"].metrics["ledger/teacher_bits"] == 1 + teacher_codes.coarse_bits(radius.build(sines=2))
    assert ledger.memory_bytes(arms) > 2**29


def test_a_line_is_over_the_arms_that_name_it(tmp_path, monkeypatch) -> None:
    def told(problem, *_, **__):
        bits = {13: 20.0, 19: 30.0, 25: 45.0}.get(problem.dim, 9.0)  # the last for teachers
        return Estimate(bits, bits - 1, bits + 1, "two-sided", "global", "converged")

    monkeypatch.setattr(ledger_entries, "estimate", told)
    arms = {str(k): config(line="one", world={"use": "radius", "sines": k}, tolerance=5.0,
                           human={"use": "descent", "width": k + 1, "steps": 20}) for k in (1, 2, 3)}
    found = ledger.cell({**arms, "alone": arms["1"].model_copy(update={"line": ""})}, 0, Store(tmp_path))
    lengths = [found[str(k)].metrics["ledger/teacher_bits"] for k in (1, 2, 3)]
    for k in "123":
        assert found[k].metrics["specialness/slope"] == pytest.approx(deming(lengths, [20.0, 30.0, 45.0]))
        assert found[k].metrics["specialness/per_teacher_bit"] == pytest.approx(95 / sum(lengths))
    assert "specialness/slope" not in found["alone"].metrics
    assert {n for m in found.values() for n in m.metrics} == {m.name for m in ledger.METRICS}
    assert ledger.on_a_line([found["1"].metrics] * 2)["specialness/slope"] is None


def test_a_human_that_is_not_within_the_tolerance_gets_nothing_back(tmp_path) -> None:
    idle = config(human={"use": "descent", "width": 3, "steps": 1})
    (measured,) = ledger.cell({"one": idle}, 0, Store(tmp_path)).values()
    assert measured.status == "undecided" and "take a wider human" in measured.reason
    assert measured.metrics["human/consistent"] == 0


def test_a_tolerance_that_no_step_resolves_is_said_and_leaves_the_rest(tmp_path) -> None:
    (measured,) = ledger.cell({"one": config(tolerance=1e-13, effort=0.05)}, 0, Store(tmp_path)).values()
    assert measured.status == "undecided" and "no code of the human" in measured.reason
    assert measured.metrics["ledger/reuse_bits"] is None


@pytest.mark.parametrize("given", [
    {"teacher": "coarse", "world": {"use": "spurious"}, "consistency": "disagreement"},
    {"world": {"use": "spurious"}},
])
def test_what_cannot_be_is_refused(given: dict) -> None:
    with pytest.raises(InputError, match="radius|disagreement"):
        ledger.check({"one": config(**given)})
    with pytest.raises(ValidationError):
        config(tolerance=0.0)


def test_a_teacher_out_of_all_bounds_is_out_of_the_question(tmp_path, monkeypatch) -> None:
    """A trajectory that ran off asks for the sine of infinity."""
    asked = []

    def told(problem, *_, **__):
        asked.append(problem)
        return Estimate(9.0, 8.0, 10.0, "two-sided", "global", "converged")

    monkeypatch.setattr(ledger_entries, "estimate", told)
    ledger.cell({"one": config(tolerance=5.0)}, 0, Store(tmp_path))
    problem = next(p for p in asked if "f' - f" in p.consistency)
    far = torch.full((2, problem.dim), float("inf"), dtype=torch.float64)
    far[1] = 0.0
    assert problem.cost(far)[0] == float("inf") and problem.cost(far)[1].isfinite()
