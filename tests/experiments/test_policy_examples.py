"""What is made of curves that are planted, what the two outers have at hand, and whole cells."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

from reuse_sim.artifacts import Store
from reuse_sim.errors import InputError
from reuse_sim.experiments import policy_examples
from reuse_sim.experiments.policy_examples import at_hand, said_by, summary
from reuse_sim.outers.few_labels import WAYS
from reuse_sim.rng import stream

ARM: dict[str, Any] = {
    "world": {"use": "radius", "sines": 2},
    "human": {"use": "descent", "width": 3, "steps": 150, "rate": 0.02, "batch": 16},
    "population": {"teachers": "each", "humans": 48, "held_out": 4, "siblings": 3},
    "width": 8, "training": {"steps": 300, "rate": 0.01, "batch": 8, "off_batch": 8, "humans_per_step": 16},
    "doublings": 7, "asked": 100, "head_width": 16, "head_steps": 150,
}  # fmt: skip
ARMS = {"human_known": {}, "human_unknown": {"known": False}, "teacher_known": {"labels": "teacher"}}


def config(**changes: Any) -> policy_examples.Config:
    return policy_examples.Config.model_validate_json(json.dumps(ARM | changes))


COUNTS = [2**k for k in range(7)]


def curves(units: float, prediction: float, readout: float) -> dict[str, list[float]]:
    """Errors at 1 to 64 labels that come within the tolerance at those numbers."""
    return {way: [at / n for n in COUNTS] for way, at in zip(WAYS, (units, prediction, readout), strict=True)}


def test_the_summary_of_planted_curves() -> None:
    own, base = curves(40, 24, 1000), curves(10, 6, 3)
    metrics, told = summary(said_by(own, COUNTS), said_by(base, COUNTS), own, COUNTS)
    assert metrics["policy/examples_log2"] == pytest.approx(math.log2(24)) and metrics["policy/censored"] == 0
    assert metrics["policy/ratio"] == metrics["policy/ratio_most"] == pytest.approx(8)
    assert metrics["policy/units_ratio"] == pytest.approx(4) and metrics["policy/ratio_bounded"] == 0
    assert metrics["policy/readout_log2"] is None and told == "not told: policy/readout_log2"
    assert metrics["policy/error_few"] == pytest.approx(250)
    assert metrics["policy/error_many"] == pytest.approx(24 / 64)


@pytest.mark.parametrize(
    ("own", "base", "ratio", "most"),
    [(100, 4, 16, None), (32, 0.5, 32, None), (0.5, 4, None, 0.25), (100, 100, None, None), (100, 0.5, 64, None)],
)
def test_where_one_end_is_not_known_the_ratio_is_a_bound_and_says_so(own, base, ratio, most) -> None:
    curve, to = curves(own, own, own), curves(base, base, base)
    metrics, told = summary(said_by(curve, COUNTS), said_by(to, COUNTS), curve, COUNTS)
    assert metrics["policy/ratio_bounded"] == 1 and "the ratio is only bounded" in told
    assert metrics["policy/ratio"] == (None if ratio is None else pytest.approx(ratio))
    assert metrics["policy/ratio_most"] == (None if most is None else pytest.approx(most))
    assert metrics["policy/censored"] == float(own in (100, 0.5)) == float("censored" in told)
    assert all(name in told for name, value in metrics.items() if value is None)


def test_what_ratios_are_to_is_1_to_itself_wherever_it_lies() -> None:
    curve = curves(0.5, 0.5, 0.5)
    ways = said_by(curve, COUNTS)
    metrics, told = summary(ways, ways, curve, COUNTS)
    assert metrics["policy/ratio"] == metrics["policy/units_ratio"] == 1 and metrics["policy/ratio_bounded"] == 0
    assert metrics["policy/examples_log2"] is None and "censored: it takes 1 example or fewer" in told


def test_one_outer_has_all_of_the_human_and_the_other_nothing() -> None:
    theta = torch.randn(3, 5, generator=stream(0, "theta"))
    seen = at_hand(theta)
    assert torch.equal(seen.value[0], theta) and not seen.slack[0].any() and bool((seen.known[0] == 1).all())
    assert not seen.value[1].any() and not seen.known[1].any()


@pytest.mark.slow
def test_with_the_human_at_hand_it_takes_fewer_labels(tmp_path) -> None:
    arms = {name: config(**changes) for name, changes in ARMS.items()}
    found = policy_examples.cell(arms, 0, Store(tmp_path))
    metrics = {name: said.metrics for name, said in found.items()}
    for said in found.values():
        assert set(said.metrics) == {m.name for m in policy_examples.METRICS}
        assert all(name in said.reason for name, value in said.metrics.items() if value is None)
    known, unknown = (float(metrics[name]["outer/human_fit"] or 0) for name in ("human_known", "human_unknown"))
    assert known > 0.8 > 0.2 > unknown
    assert (metrics["human_unknown"]["policy/ratio"] or 0) > 2
    assert metrics["human_known"]["policy/ratio_bounded"] or metrics["human_known"]["policy/ratio"] == 1
    # Without θ2 nothing of the human is in what the outer predicts, and no line in it will do.
    assert metrics["human_unknown"]["policy/readout_log2"] is None
    assert policy_examples.memory_bytes(arms) > 2**29
    alone = policy_examples.cell({"human_known": arms["human_known"]}, 0, Store(tmp_path / "alone"))["human_known"]
    for way in WAYS:
        together = found["human_known"].diagnostics["excess"][way]
        assert alone.diagnostics["excess"][way] == pytest.approx(together, rel=0.02)


def test_labels_are_whose_they_are_said_to_be(tmp_path, monkeypatch) -> None:
    seen = {}
    learn = policy_examples.few_labels.learn

    def watched(heads, read, labels, counts, who, *rest):
        seen.update(read=read, labels=labels, counts=counts, who=who, way=heads.way)
        return learn(heads, read, labels, counts, who, *rest)

    monkeypatch.setattr(policy_examples.few_labels, "learn", watched)
    small = {"training": ARM["training"] | {"steps": 5}, "doublings": 3, "head_steps": 5}
    policy_examples.cell({name: config(**changes, **small) for name, changes in ARMS.items()}, 0, Store(tmp_path))
    human, unknown, teacher = seen["labels"].unflatten(0, (3, 4))
    assert torch.equal(human, unknown) and not torch.allclose(human, teacher)
    known, blank, same = seen["read"].unflatten(0, (3, 4))
    assert torch.equal(known, same) and not torch.allclose(known, blank) and torch.equal(known[..., :4], blank[..., :4])
    each = torch.stack([seen["who"], seen["way"], seen["counts"]])
    assert each.shape[1] == 3 * 3 * 4 * 4 == len(each.T.unique(dim=0))


def test_what_does_not_fit_is_found_before_anything_runs() -> None:
    with pytest.raises(InputError, match="arms: got b; expected one with labels: human and known: true"):
        policy_examples.check({"b": config(known=False)})
    with pytest.raises(InputError, match="outer: context"):
        policy_examples.check({"a": config(human=ARM["human"] | {"depth": 2})})
    with pytest.raises(InputError, match="regression"):
        policy_examples.check({"a": config(world={"use": "spurious"})})
    with pytest.raises(ValueError, match="held_out"):
        config(population={"humans": 8})
