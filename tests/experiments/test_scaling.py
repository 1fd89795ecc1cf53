"""One cell of the scaling experiment is the reuse experiment at every point of a grid; what was made is found."""

import logging
from dataclasses import replace
from math import log

import numpy as np
import pytest
from pydantic import ValidationError

from reuse_sim import laws
from reuse_sim.artifacts import Store
from reuse_sim.errors import InputError
from reuse_sim.experiments import reuse, scaling, scene
from reuse_sim.experiments.scaling import Config
from reuse_sim.laws import Law
from reuse_sim.plugins import Plugin

SMALL = {
    "world": {"use": "radius"}, "human": {"use": "descent", "width": 6, "steps": 100, "rate": 0.02},
    "leak": {"use": "prefix"}, "outer": {"use": "slot", "width": 6},
    "training": {"steps": 5, "batch": 8, "off_batch": 8}, "questions": 60, "widths": (2, 4, 8), "labelled": (8, 16, 32),
}  # fmt: skip
ARMS = {"none": {"leak": {"use": "prefix", "bits": 0}}, "all": {}}
N, D = np.meshgrid([300.0, 700, 1400, 2800], [128.0, 512, 2048, 8192], indexing="ij")
LAW = Law(0.8, 0.5, log(300), log(20))


def configs(**changes):
    return {name: Config.model_validate({**SMALL, **arm, **changes}) for name, arm in ARMS.items()}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path, logging.getLogger().warning)


def test_a_cell_is_the_reuse_experiment_at_every_point(store):
    found = scaling.cell(configs(), 0, store)
    assert store.computed == 2 + 2 * 9  # one people and their figures; outers and theirs at nine points
    of_reuse = {name: getattr(configs()["all"], name) for name in reuse.Config.model_fields}
    own = reuse.Config.model_validate({
        **of_reuse, "outer": {"use": "slot", "width": 8}, "training": {**SMALL["training"], "labelled": 32},
    })  # fmt: skip
    none = own.model_copy(update={"leak": configs()["none"].leak})
    alone = reuse.cell({"none": none, "all": own}, 0, store)
    assert store.computed == 2 + 2 * 9
    for name, measured in found.items():
        assert measured.status == "ok" and set(measured.metrics) == {m.name for m in scaling.METRICS}
        last, grid = alone[name].metrics, measured.diagnostics["scaling"]
        assert measured.metrics["scaling/private_large"] == last["inheritance/causal_private"] == grid["private"][2][2]
        assert measured.metrics["scaling/off_fit_large"] == last["outer/off_fit"]
        assert grid["loss"][2][2] == 1 - last["outer/on_fit"] and grid["d"] == [8, 16, 32]
    assert found["none"].metrics["scaling/inheritance_slope_n"] == 0 != found["all"].metrics["scaling/private_large"]


def test_size_is_what_the_outer_has_of_its_own():
    """A trunk of w units on d + 3 inputs, and two heads that read units and inputs."""
    arm = configs()["all"]
    inputs = arm.world.build().d + 3
    assert scaling._sizes(arm) == [w * inputs + 2 * (w + inputs) for w in (2, 4, 8)]


def test_what_was_made_is_found():
    private = 0.5 - 0.03 * np.log2(N) + 0.02 * np.log2(D)
    on_fit = 1 - laws.loss(LAW, N, D)
    metrics, shown, why = scaling.measure(list(N[:, 0]), list(D[0]), on_fit, 0 * N, private)
    assert why == "" and set(metrics) == {m.name for m in scaling.LAW + scaling.REUSE}
    assert [metrics[f"scaling/{k}"] for k in ("alpha_n", "alpha_d", "r_squared")] == pytest.approx([0.8, 0.5, 1])
    slopes = [metrics[f"scaling/inheritance_slope_{axis}"] for axis in "nd"]
    assert slopes == pytest.approx([-0.03, 0.02])
    ends = [metrics["scaling/private_small"], metrics["scaling/private_large"]]
    assert ends == pytest.approx([private[0, 0], private[-1, -1]])
    assert shown["cusp"] == pytest.approx(list(laws.cusp(LAW, N[:, 0])))
    assert np.exp(shown["surface"]["log_loss"][-1][-1]) == pytest.approx(laws.loss(LAW, 2800, 8192), rel=1e-4)


@pytest.mark.parametrize(
    ("loss", "silent", "says"),
    [
        (3 * D**-0.5 * np.exp(0.05 * np.cos(N)), ("alpha_n", "alpha_n_se"), "not identified: alpha_n"),
        (0 * D, ("alpha_n", "alpha_d", "alpha_n_se", "alpha_d_se", "r_squared", "misfit"), "no law: loss: got 0.0"),
    ],
)
def test_what_is_not_known_is_none_with_a_reason(loss, silent, says):
    metrics, shown, why = scaling.measure(list(N[:, 0]), list(D[0]), 1 - loss, 0 * N, 0 * N)
    assert {name for name, value in metrics.items() if value is None} == {f"scaling/{name}" for name in silent}
    assert why.startswith(says) and all(f"scaling/{name}" in why for name in silent)
    assert "cusp" not in shown and shown["why"] and metrics["scaling/inheritance_slope_n"] == 0


def test_a_world_that_does_not_count_is_left_out_before_any_outer(store, monkeypatch):
    monkeypatch.setattr(scene, "MUST_FAIL_BY", 10.0)
    found = scaling.cell(configs(), 0, store)
    assert {m.status for m in found.values()} == {"undecided"} and store.computed == 2


def test_an_arm_that_broke_at_one_point_says_where(store, monkeypatch):
    whole = reuse.cell

    def broken(arms, seed, store):
        found = dict(whole(arms, seed, store))
        if arms["all"].training.labelled == 16 and arms["all"].outer.options["width"] == 4:
            found["all"] = replace(found["all"], status="failed", reason="the outer's training broke")
        return found

    monkeypatch.setattr(reuse, "cell", broken)
    found = scaling.cell(configs(), 0, store)
    assert (found["all"].status, found["none"].status) == ("failed", "ok")
    assert found["all"].reason == "width 4, 16 labels: the outer's training broke"


def test_grids_that_are_none_are_refused():
    scaling.check(configs())
    other = {**configs(), "all": configs(widths=(2, 4, 16))["all"]}
    with pytest.raises(InputError, match="arm all: widths, labelled"):
        scaling.check(other)
    for wrong in ({"widths": (2, 4)}, {"labelled": (8, 8, 16)}, {"labelled": (0, 8, 16)}):
        with pytest.raises(ValidationError, match="three or more|greater than 0"):
            configs(**wrong)
    with pytest.raises(ValueError, match="width"):
        Config._of_any_width(Plugin.model_construct(use="my_outer:build", options={}))
