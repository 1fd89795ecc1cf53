"""Benchmarks compare like with like, and print what they measured."""

from __future__ import annotations

import json
import math

import pytest
import torch

from reuse_sim import bench
from reuse_sim.bench import others, sampling, training
from reuse_sim.bench.timing import paired, ratio
from reuse_sim.engines.spec import Fixed, Sgd
from reuse_sim.errors import InputError
from reuse_sim.train import train


def test_other_tools_take_the_same_steps():
    net = training.net_of(16)
    theta, x, y = training.material(net, 4)
    sgd = Sgd(others.RATE, others.MOMENTUM)
    ours = train(net, theta, Fixed(x, y), steps=3, optimizer=sgd, schedule="constant", engine="torch").theta
    repeat = others.vmap(net, theta, x, y, 3)
    repeat()
    now = dict(zip(repeat.__code__.co_freevars, (c.cell_contents for c in repeat.__closure__), strict=True))["now"]
    assert torch.allclose(now, ours, atol=1e-6)
    repeat = others.loop(net, theta, x, y, 3)
    repeat()
    cells = (c.cell_contents for c in repeat.__closure__)
    models = dict(zip(repeat.__code__.co_freevars, cells, strict=True))["models"]
    rows = [torch.cat([p.detach().flatten() for p in model.parameters()]) for model, _ in models]
    assert torch.allclose(torch.stack(rows), ours, atol=1e-6)
    if training.has("jax"):
        for chunk in (None, 2):
            done = torch.tensor(others.jax_train(net, theta, x, y, 3, chunk)().__array__().copy())
            assert torch.allclose(done.reshape(4, -1), ours, atol=1e-5)


def test_flops_are_counted_by_hand():
    # 2 · 128 questions · (forward and weights' gradient of all three layers, inputs' gradient of two)
    assert training.flops(training.net_of(16)) == 2 * 128 * (2 * (64 + 256 + 16) + 256 + 16)


def test_rounds_are_interleaved():
    calls: list[str] = []
    ticks = iter(range(100))
    seconds = paired({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3, lambda: next(ticks))
    assert "".join(calls) == "aabb" + "ab" * 3 and seconds == {"a": [1] * 3, "b": [1] * 3}
    assert ratio([2.0, 4.0, 9.0], [1.0, 2.0, 3.0]) == 2.0


def test_an_unknown_benchmark_is_named_with_the_known_ones():
    with pytest.raises(InputError, match="'trian'; expected train or sample or specialness. did you mean 'train'"):
        bench.run("trian", 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", bench.NAMES)
def test_a_benchmark_runs(name, monkeypatch, capsys):
    monkeypatch.setattr(training, "MANY", 200)
    monkeypatch.setattr(sampling, "WARMUP", 20)
    monkeypatch.setattr(sampling, "DRAWS", 10)
    monkeypatch.setattr(training, "in_a_process", lambda function, argument: function(argument))
    result = bench.run(name, 1)
    json.dumps(result, allow_nan=False)
    assert result["machine"].get("peak_gflops", math.inf) > 1
    tables = {row["table"] for row in result["rows"]}
    assert tables == set(bench.NAMES[name].COLUMNS)
    for row in result["rows"]:
        assert {"variant", "table"} < set(row) and (row.get("share_of_peak") or 0) < 1.2
