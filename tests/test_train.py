"""The trainer against torch's own optimisers, one network at a time, and everything that must not matter."""

import logging
import math
import sys
import threading
import types

import pytest
import torch
from torch.nn import functional as F

from reuse_sim import engines
from reuse_sim import train as training
from reuse_sim.engines import stacked
from reuse_sim.engines.spec import BLOCK, Adam, AdamW, Fixed, Fresh, Head, Sgd
from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp
from reuse_sim.rng import streams
from reuse_sim.train import Progress, descend, train, value_and_grad

NET = Mlp((3, 5, 1), "tanh")
WIDE = Mlp((3, 7, 4), "tanh")
# Decay rates and ε for which a training does not amplify rounding: with β₂ = 0.9 a plain loop is 10⁹ times
# as far from itself after 200 steps as its start was.
OPTIMIZERS = {
    Sgd(0.05): lambda p: torch.optim.SGD(p, lr=0.05),
    Sgd(0.02, 0.9): lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9),
    Adam(0.01): lambda p: torch.optim.Adam(p, lr=0.01),
    Adam(0.01, (0.8, 0.99), 1e-3): lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.8, 0.99), eps=1e-3),
    AdamW(0.01, decay=0.1): lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
}
LOSSES = {
    "squared": ((Head("squared", 4),), lambda z, y: F.mse_loss(z, y[:, :4])),
    "logistic": ((Head("logistic", 4),), lambda z, y: F.binary_cross_entropy_with_logits(z, y[:, :4])),
    "cross_entropy": ((Head("cross_entropy", 4),), lambda z, y: F.cross_entropy(z, y[:, 0].long())),
    "three heads": (
        (Head("logistic"), Head("cross_entropy", 2, weight=0.5), Head("squared", weight=2.0)),
        lambda z, y: (
            F.binary_cross_entropy_with_logits(z[:, :1], y[:, :1])
            + 0.5 * F.cross_entropy(z[:, 1:3], y[:, 1].long())
            + 2 * F.mse_loss(z[:, 3:], y[:, 2:3])
        ),
    ),
}
COLUMNS = {"squared": 4, "logistic": 4, "cross_entropy": 1, "three heads": 3}


def start(n: int, net: Mlp = NET, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return net.init(streams(0, [str(i) for i in range(n)]), torch.float64).to(dtype)


def questions(n: int = 32, columns: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets that suit every loss: zeros and ones."""
    x = torch.randn(n, 3, dtype=torch.float64, generator=streams(0, ["x"])[0])
    return x, torch.stack([(x[:, 0] * x[:, 1] > 0.2 * k).double() for k in range(columns)], 1)


def chunks_of(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CHUNK", "CROWD"):
        monkeypatch.setattr(stacked, name, size)


def plain(net: Mlp, theta, x, y, optimizer, loss, steps, clip=None, schedule=None):
    """One network the usual way: modules, an optimiser of torch, a loop."""
    layers = [torch.nn.Linear(a, b, dtype=theta.dtype) for a, b in zip(net.sizes, net.sizes[1:], strict=False)]
    model = torch.nn.Sequential(*[m for layer in layers for m in (layer, torch.nn.Tanh())][:-1])
    torch.nn.utils.vector_to_parameters(theta, model.parameters())
    adam = optimizer(model.parameters())
    rate = schedule(adam) if schedule else None
    for _ in range(steps):
        adam.zero_grad()
        value = loss(model(x), y)
        value.backward()
        if clip is not None:
            # As clip_grad_norm_, which divides by norm + 1e-6.
            norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
            for p in model.parameters():
                p.grad *= clip / max(norm, clip)
        adam.step()
        if rate:
            rate.step()
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach(), value.detach()


# The same answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_it_is_a_plain_loop_for_each_network_apart(optimizer, loss, clip):
    heads, one = LOSSES[loss]
    x, y = questions(columns=COLUMNS[loss])
    fit = train(
        WIDE, start(3, WIDE), Fixed(x, y), steps=200, optimizer=optimizer, heads=heads, schedule="constant",
        clip=clip, engine="torch",
    )  # fmt: skip
    assert fit.engine == "torch" and not fit.broken and not fit.stopped and fit.iterates is None
    for i in (0, 2):
        theta, value = plain(WIDE, start(3, WIDE)[i], x, y, OPTIMIZERS[optimizer], one, 200, clip)
        assert (fit.theta[i] - theta).abs().max() <= 1e-12
        assert abs(fit.loss[i] - value) <= 1e-12


@pytest.mark.parametrize(
    ("schedule", "rate"),
    [
        ("cosine", lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 120)),
        ("linear", lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.0, 120)),
    ],
)
def test_schedules_are_those_of_torch(schedule, rate):
    x, y = questions()
    fit = train(NET, start(2), Fixed(x, y), steps=120, optimizer=Adam(0.01), schedule=schedule, engine="torch")
    theta, _ = plain(NET, start(2)[1], x, y, OPTIMIZERS[Adam(0.01)], F.mse_loss, 120, schedule=rate)
    assert (fit.theta[1] - theta).abs().max() <= 1e-12


@pytest.mark.parametrize("own", [False, True])
def test_minibatches_are_drawn_by_each_networks_own_generator(own):
    steps, n, batch = BLOCK + 20, 32, 5
    x, y = questions()
    xs, ys = (torch.stack([t, t.flip(0)]) for t in (x, y))
    asked = Fixed(*((xs, ys) if own else (x, y)), batch=batch, generators=streams(3, ["a", "b"]))
    fit = train(NET, start(2), asked, steps=steps, optimizer=Sgd(0.1, 0.5), schedule="constant", engine="torch")
    for i, generator in enumerate(streams(3, ["a", "b"])):
        draws = torch.cat([torch.randint(n, (BLOCK, batch), generator=generator) for _ in range(2)])
        mine = (xs[i], ys[i]) if own else (x, y)
        theta = start(2)[i].clone().requires_grad_()
        sgd = torch.optim.SGD([theta], lr=0.1, momentum=0.5)
        for step in range(steps):
            sgd.zero_grad()
            F.mse_loss(NET.forward(theta, mine[0][draws[step]]), mine[1][draws[step]]).backward()
            sgd.step()
        assert (fit.theta[i] - theta).abs().max() <= 1e-12


def test_fresh_questions_are_asked_once_in_blocks():
    seen = []

    def draw(members: slice, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append((members, n))
        x = torch.stack([torch.randn(n, 3, generator=g, dtype=torch.float64) for g in generators[members]])
        return x, x[..., :1]

    generators = streams(4, ["a", "b"])
    asked = Fresh(draw, 6)
    fit = train(NET, start(2), asked, steps=70, optimizer=Sgd(0.1), schedule="constant", engine="torch")
    assert seen == [(slice(0, 2), 6 * BLOCK)] * 2
    again = streams(4, ["b"])[0]
    x = torch.cat([torch.randn(6 * BLOCK, 3, generator=again, dtype=torch.float64) for _ in range(2)])
    theta = start(2)[1].clone().requires_grad_()
    sgd = torch.optim.SGD([theta], lr=0.1)
    for now in x.split(6)[:70]:
        sgd.zero_grad()
        F.mse_loss(NET.forward(theta, now), now[:, :1]).backward()
        sgd.step()
    assert (fit.theta[1] - theta).abs().max() <= 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_chunks_and_threads_change_no_bit(monkeypatch, dtype):
    x, y = (t.to(dtype) for t in questions())
    found = []
    for chunk, threads in [(32, 1), (3, 1), (3, 2), (1, 2), (7, 3)]:
        chunks_of(chunk, monkeypatch)
        asked = Fixed(x, y, batch=8, generators=streams(5, [str(i) for i in range(10)]))
        fit = train(
            NET, start(10, dtype=dtype), asked, steps=70, optimizer=Adam(0.01), clip=0.1, save=(0, 33, 70),
            engine="torch", threads=threads,
        )  # fmt: skip
        found.append(fit)
    for fit in found[1:]:
        assert torch.equal(fit.theta, found[0].theta) and torch.equal(fit.loss, found[0].loss)
        assert torch.equal(fit.iterates, found[0].iterates)


def test_iterates_are_the_ends_of_shorter_trainings():
    x, y = questions()
    save = (120, 0, 50, 61, 50)
    how = dict(optimizer=Adam(0.01), schedule="constant", engine="torch")
    fit = train(NET, start(2), Fixed(x, y), steps=120, save=save, **how)
    assert fit.iterates.shape == (5, 2, NET.p)
    for iterate, steps in zip(fit.iterates, save, strict=True):
        shorter = train(NET, start(2), Fixed(x, y), steps=steps, **how).theta if steps else start(2)
        assert torch.equal(iterate, shorter)


def test_the_start_is_left_as_it_was():
    x, y = questions()
    theta = start(2)
    train(NET, theta, Fixed(x, y), steps=3, optimizer=Adam(0.01), engine="torch")
    assert torch.equal(theta, start(2))


def test_values_and_gradients_for_samplers():
    x, y = questions()
    theta = start(3).requires_grad_()
    values, gradients = value_and_grad(NET, x, y, engine="torch")(theta)
    expected = (NET.forward(theta, x) - y).square().mean((1, 2))
    (gradient,) = torch.autograd.grad(expected.sum(), theta)
    assert torch.allclose(values, expected, rtol=0, atol=1e-14)
    assert torch.allclose(gradients, gradient, rtol=0, atol=1e-14)


# Networks that leave ---------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 2, 32])
def test_a_network_stops_at_the_first_loss_that_is_low_enough(monkeypatch, chunk):
    chunks_of(chunk, monkeypatch)
    x, y = questions()
    how = dict(steps=150, optimizer=Adam(0.02), schedule="constant", engine="torch")
    limit = train(NET, start(4), Fixed(x, y), **dict(how, steps=101)).loss[1].item()  # its loss at step 100
    whole = train(NET, start(4), Fixed(x, y), save=range(151), **how)
    losses = torch.stack([(NET.forward(at, x) - y).square().mean((1, 2)) for at in whole.iterates])
    fit = train(NET, start(4), Fixed(x, y), stop_loss=limit, save=(0, 149, 150), **how)
    low = losses[:150] <= limit + 1e-15  # not computed as the engine does
    met = {i: int(low[:, i].int().argmax()) for i in range(4) if low[:, i].any()}
    assert fit.stopped == met and met[1] == 100 and len(met) < 4 and not fit.broken
    for i in range(4):
        ends = [whole.iterates[min(step, met.get(i, 150)), i] for step in (0, 149, 150)]
        assert torch.equal(fit.theta[i], ends[-1])
        assert torch.equal(fit.iterates[:, i], torch.stack(ends))
        assert abs(fit.loss[i] - losses[met.get(i, 149), i]) <= 1e-14


def test_one_that_stops_takes_none_along():
    x, y = questions()
    theta = torch.cat([start(1), start(1) + 1e-9])
    losses = (NET.forward(theta, x) - y).square().mean((1, 2))
    how = dict(steps=1, optimizer=Sgd(0.1), stop_loss=losses.mean().item(), engine="torch")
    assert train(NET, theta, Fixed(x, y), **how).stopped == {int(losses.argmin()): 0}


def test_those_that_stay_keep_their_own_minibatches():
    x, y = (torch.stack([t, t.flip(0), t + 1]) for t in questions())
    theta = start(3)
    found = []
    for first in (0.0, math.nan):
        theta[0] += first
        asked = Fixed(x, y, batch=5, generators=streams(3, ["a", "b", "c"]))
        found.append(train(NET, theta, asked, steps=BLOCK + 5, optimizer=Sgd(0.1), engine="torch"))
    assert list(found[1].broken) == [0]
    assert torch.equal(found[0].theta[1:], found[1].theta[1:])


def test_all_may_stop_and_no_more_is_asked():
    asked = []

    def draw(members: slice, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        asked.append(n)
        return torch.zeros(1, n, 3, dtype=torch.float64), torch.zeros(1, n, 1, dtype=torch.float64)

    told = []
    fit = train(
        NET, start(3), Fresh(draw, 2), steps=10 * BLOCK, optimizer=Sgd(0.3), schedule="constant", stop_loss=1e-3,
        save=(0, 10 * BLOCK), engine="torch", progress=told.append,
    )  # fmt: skip
    assert set(fit.stopped) == {0, 1, 2} and len(asked) == max(fit.stopped.values()) // BLOCK + 1 < 10
    assert torch.equal(fit.iterates[1], fit.theta)
    assert told[-1].done == told[-1].total


@pytest.mark.parametrize("engine", ["torch", "auto"])
def test_a_network_that_breaks_stops_alone_and_is_named(engine):
    x, y = (torch.stack([t] * 3).float() for t in questions())
    bad = y.clone()
    bad[1] = 1e30
    how = dict(steps=60, optimizer=Sgd(0.03), schedule="constant", engine=engine)
    theta = start(3, dtype=torch.float32)
    broken, whole = (train(NET, theta, Fixed(x, t), **how) for t in (bad, y))
    assert broken.broken == {1: "network 1: loss not finite at step 0 with rate 0.03"}
    assert torch.equal(broken.theta[[0, 2]], whole.theta[[0, 2]])
    assert torch.equal(broken.theta[1], theta[1]) and not broken.loss[1].isfinite()


def test_the_sentence_has_the_networks_number_the_step_and_the_rate_of_that_step(monkeypatch):
    chunks_of(4, monkeypatch)

    def draw(members: slice, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.ones(members.stop - members.start, n, 3, dtype=torch.float64)
        if members.start == 8:
            x[1, 7] = math.nan
        return x, x[..., :1]

    how = dict(steps=14, optimizer=Adam(0.06), engine="torch")
    fit = train(NET, start(12), Fresh(draw, 1), threads=2, **how)
    assert fit.broken == {9: "network 9: loss not finite at step 7 with rate 0.03"}
    assert fit.theta.isfinite().all()


# Threads and progress --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "threads", "sizes"), [(70, 1, [32, 32, 6]), (70, 2, [35, 35]), (20, 2, [20]), (300, 2, [128, 128, 44])]
)
def test_chunks_are_small_but_not_so_small_that_threads_wait(n, threads, sizes):
    asked = []

    def draw(members: slice, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        asked.append(members.stop - members.start)
        return torch.zeros(1, rows, 3), torch.zeros(1, rows, 1)

    theta = start(1, dtype=torch.float32).expand(n, -1)
    train(NET, theta, Fresh(draw, 2), steps=1, optimizer=Sgd(0.1), engine="torch", threads=threads)
    assert sorted(asked, reverse=True) == sizes


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("fails", [False, True])
def test_torchs_threads_are_one_within_and_as_they_were_after(monkeypatch, threads, fails):
    chunks_of(1, monkeypatch)
    within, before = [], torch.get_num_threads()

    def draw(members: slice, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        within.append((torch.get_num_threads(), threading.get_ident()))
        if fails and members.start == 1:
            raise RuntimeError("no more questions")
        return torch.zeros(1, n, 3, dtype=torch.float64), torch.zeros(1, n, 1, dtype=torch.float64)

    torch.set_num_threads(2)
    try:
        how = dict(steps=100 * BLOCK if fails else 3, optimizer=Sgd(0.1), engine="torch", threads=threads)
        if fails:
            with pytest.raises(RuntimeError, match="no more questions"):
                train(NET, start(40), Fresh(draw, 2), **how)
            # Not even the network that is under way goes on: with one thread it is done before the other fails.
            assert len(within) < 50 or threads == 1
        else:
            train(NET, start(40), Fresh(draw, 2), **how)
        assert {count for count, _ in within} == {1}
        assert (threading.get_ident() in {ident for _, ident in within}) == (threads == 1)
        assert torch.get_num_threads() == 2
        monkeypatch.setattr(stacked, "value_and_grad", lambda *_: lambda theta: torch.get_num_threads())
        assert value_and_grad(NET, *questions(), engine="torch")(start(2)) == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_progress_is_told_about_once_per_second_and_at_the_end(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(training.time, "monotonic", lambda: now[0])
    chunks_of(2, monkeypatch)

    def draw(members: slice, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        now[0] += 0.4  # a block takes so long
        return torch.zeros(1, n, 3, dtype=torch.float64), torch.zeros(1, n, 1, dtype=torch.float64)

    told = []
    steps = 5 * BLOCK
    train(
        NET, start(4), Fresh(draw, 2), steps=steps, optimizer=Sgd(0.1), engine="torch", threads=1, progress=told.append
    )
    blocks = [p.done / (2 * BLOCK) for p in told]
    assert blocks == [3, 6, 9, 10]
    assert told[0].networks == 4 and told[0].steps == steps and told[0].total == 4 * steps
    assert [p.seconds_left for p in told] == pytest.approx([0.4 * (10 - b) for b in blocks])


def test_progress_reads_well():
    half = Progress(7_400_000, 10_000, 2_000, 80.2)
    assert str(half) == "37 % of 10,000 networks x 2,000 steps, 1 min 20 s left"
    assert str(Progress(20, 2, 10, 0.0)).endswith("100 % of 2 networks x 10 steps, 0 s left")
    assert str(Progress(1, 2, 10, 7384)).endswith("2 h 3 min left")
    assert str(Progress(1, 2, 10, 59.7)).endswith("1 min 0 s left")


# Which engine ----------------------------------------------------------------------------------------


@pytest.fixture
def without_numba(monkeypatch):
    engines._say.cache_clear()
    monkeypatch.setitem(sys.modules, "reuse_sim.engines.native", None)  # what imports it gets an ImportError
    yield
    engines._say.cache_clear()


@pytest.fixture
def with_another(monkeypatch):
    """An engine in numba's place that can do whatever has no `stop_loss`."""
    another = types.ModuleType("native")
    vars(another).update(
        {k: getattr(stacked, k) for k in ("CHUNK", "start", "advance", "theta", "value_and_grad")},
        NAME="numba",
        unsupported=lambda work, dtype, device: "it never stops" if work.stop_loss is not None else "",
    )
    engines._say.cache_clear()
    monkeypatch.setitem(sys.modules, "reuse_sim.engines.native", another)
    yield
    engines._say.cache_clear()


HOW = dict(steps=2, optimizer=Sgd(0.1))


def test_without_numba_auto_is_torch_and_says_so_once(without_numba, caplog):
    caplog.set_level(logging.INFO, "reuse_sim")
    fits = [train(NET, start(1), Fixed(*questions()), engine=e, **HOW) for e in ("auto", "torch", "auto")]
    assert [fit.engine for fit in fits] == ["torch"] * 3
    assert len(caplog.records) == 1
    assert caplog.messages[0].startswith("engine torch, not numba: it is not installed")


def test_without_numba_asking_for_it_raises(without_numba):
    with pytest.raises(InputError, match=r"not installed .*pip install 'reuse_sim\[fast\]'"):
        train(NET, start(1), Fixed(*questions()), engine="numba", **HOW)
    with pytest.raises(InputError, match="not installed"):
        value_and_grad(NET, *questions(), engine="numba")


def test_auto_is_numba_where_it_can_do_the_work(with_another, caplog):
    caplog.set_level(logging.INFO, "reuse_sim")
    asked = Fixed(*questions())
    assert train(NET, start(1), asked, **HOW).engine == "numba"
    assert train(NET, start(1), asked, engine="numba", **HOW).engine == "numba"
    assert train(NET, start(1), asked, engine="torch", **HOW).engine == "torch"
    assert train(NET, start(1), asked, stop_loss=0.0, **HOW).engine == "torch"
    assert caplog.messages == ["engine numba", "engine torch, not numba: it never stops"]
    with pytest.raises(InputError, match="numba, but it never stops"):
        train(NET, start(1), asked, stop_loss=0.0, engine="numba", **HOW)


# What is refused -------------------------------------------------------------------------------------

X, Y = questions()
CLASSES = dict(net=Mlp((3, 2)), theta_0=torch.zeros(2, 8).double(), heads=(Head("cross_entropy", 2),))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (dict(theta_0=start(2)[0]), r"theta_0: got \(26\); expected \(networks, 26\)"),
        (dict(theta_0=start(2)[:, 1:]), r"theta_0: got \(2, 25\); expected \(networks, 26\)"),
        (dict(theta_0=start(2)[:0]), r"theta_0: got \(0, 26\)"),
        (dict(theta_0=start(2).half()), r"theta_0: got torch.float16; expected float32 or float64.*theta_0.float"),
        (dict(theta_0=start(2).float()), "questions.x: got torch.float64; expected torch.float32"),
        (dict(heads=()), "heads: got none"),
        (dict(heads=(Head(outputs=2),)), "heads: got 2 outputs; expected 1, as the network has"),
        (dict(heads=(Head("cubic"),)), "heads: got loss 'cubic'; expected squared or logistic or cross_entropy"),
        (dict(heads=(Head(outputs=0), Head())), "heads: got 0 outputs in one head"),
        (dict(heads=(Head(weight=math.nan),)), "heads: got weight nan"),
        (dict(optimizer=Adam(math.nan)), "optimizer.rate: got nan; expected a finite number, 0 or more"),
        (dict(optimizer=Sgd(math.inf)), "optimizer.rate: got inf"),
        (dict(optimizer=Sgd(-0.1)), "optimizer.rate: got -0.1"),
        (dict(optimizer=Sgd(0.1, 1.0)), "optimizer: got Sgd.*momentum or betas from 0 to below 1"),
        (dict(optimizer=Adam(0.1, (0.9, 1.5))), "optimizer: got Adam"),
        (dict(schedule="sine"), "schedule: got 'sine'; expected cosine or linear or constant"),
        (dict(steps=0), "steps: got 0; expected at least 1"),
        (dict(clip=0.0), "clip: got 0.0; expected a positive number. Take None for no limit"),
        (dict(clip=math.nan), "clip: got nan"),
        (dict(stop_loss=math.nan), "stop_loss: got nan"),
        (dict(save=(1, 5)), "save: got 5; expected steps from 0 to 4, the end"),
        (dict(save=(-1,)), "save: got -1"),
        (dict(threads=0), "threads: got 0"),
        (dict(engine="numby"), "engine: got 'numby'; expected auto or numba or torch. did you mean 'numba'"),
        (dict(questions=Fixed(X[0], Y)), r"questions.x: got \(3\); expected \(n, columns\) or \(2, n, columns\)"),
        (dict(questions=Fixed(X.expand(3, -1, -1), Y)), r"questions.x: got \(3, 32, 3\)"),
        (dict(questions=Fixed(X[:, :2], Y)), "questions.x: got 2 inputs; expected 3, as the network has"),
        (dict(questions=Fixed(X[:0], Y[:0])), "questions.x: got no questions"),
        (dict(questions=Fixed(X, Y[:9])), "questions.y: got 9 rows; expected 32, one per question"),
        (dict(questions=Fixed(X, Y[:, 0])), r"questions.y: got \(32\)"),
        (dict(questions=Fixed(X, Y.expand(-1, 2))), "questions.y: got 2 columns; expected 1, as the heads compare"),
        (dict(questions=Fixed(X, Y.long())), "questions.y: got torch.int64; expected torch.float64"),
        (dict(questions=Fixed(X, Y, batch=0)), "questions.batch: got 0; expected at least 1"),
        (dict(questions=Fixed(X, Y, batch=4, generators=streams(0, ["a"]))), "generators: got 1; expected 2, one per"),
        (dict(heads=(Head("logistic"),), questions=Fixed(X, 2 * Y - 1)), "got target -1; expected numbers from 0 to 1"),
        (dict(CLASSES, questions=Fixed(X, Y + 1)), "questions.y: got class 2; expected whole numbers from 0 to 1"),
        (dict(CLASSES, questions=Fixed(X, Y - 1)), "questions.y: got class -1"),
        (dict(CLASSES, questions=Fixed(X, Y / 2)), "questions.y: got class 0.5"),
        (dict(CLASSES, questions=Fixed(X, Y * math.nan)), "questions.y: got class nan"),
        (dict(questions=Fresh(lambda members, n: (X[None], Y[None, :, :0]), 2)), "questions.y: got 0 columns"),
        (dict(CLASSES, questions=Fresh(lambda members, n: (X[None], Y[None] + 7), 2)), "questions.y: got class 7"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_in_a_sentence(wrong, sentence):
    right = dict(net=NET, theta_0=start(2), questions=Fixed(X, Y), steps=4, optimizer=Sgd(0.1), engine="torch")
    net, theta_0, asked, *_ = arguments = {**right, **wrong}.values()
    how = dict(zip(({**right, **wrong}), arguments, strict=True))
    for name in ("net", "theta_0", "questions"):
        del how[name]
    with pytest.raises(InputError, match=sentence):
        train(net, theta_0, asked, **how)


@pytest.mark.parametrize(
    ("theta", "x", "sentence"),
    [
        (start(2)[:, 1:], X, r"theta: got \(2, 25\); expected \(networks, 26\)"),
        (start(2).float(), X, "theta: got torch.float32; expected torch.float64, as the questions"),
        (start(2), X.expand(3, -1, -1), "theta: got 2 rows; expected 3, one for each network's questions"),
        (start(2), X[:, :2], "questions.x: got 2 inputs"),
    ],
)
def test_gradients_of_what_does_not_fit_are_refused(theta, x, sentence):
    with pytest.raises(InputError, match=sentence):
        value_and_grad(NET, x, Y, engine="torch")(theta)


# Losses of any kind ----------------------------------------------------------------------------------


def loss(theta: torch.Tensor, _step: int) -> torch.Tensor:
    x, y = questions()
    return (NET.forward(theta, x) - y).square().mean((1, 2))


@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_descent_is_adam_with_a_cosine_rate_for_each_network_apart(n, clip):
    fit = descend(loss, start(n), steps=200, rate=0.01, clip=clip)
    x, y = questions()
    cosine = lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 200)  # noqa: E731
    for i in range(n):
        theta, value = plain(NET, start(n)[i], x, y, OPTIMIZERS[Adam(0.01)], F.mse_loss, 200, clip, cosine)
        assert (fit.theta[i] - theta).abs().max() <= 1e-12
        assert abs(fit.loss[i] - value) <= 1e-12


def test_in_a_descent_a_network_that_breaks_stops_alone_and_is_named():
    def breaking(theta: torch.Tensor, step: int) -> torch.Tensor:
        bad = torch.tensor([0.0, math.nan if step == 7 else 0.0, 0.0], dtype=torch.float64)
        return loss(theta, step) + bad

    broken, whole = (descend(f, start(3), steps=50, rate=0.01, schedule="constant") for f in (breaking, loss))
    assert broken.broken == {1: "network 1: loss not finite at step 7 with rate 0.01"}
    assert torch.equal(broken.theta[[0, 2]], whole.theta[[0, 2]])
    assert torch.equal(broken.theta[1], descend(loss, start(3), steps=7, rate=0.01, schedule="constant").theta[1])


def test_a_descent_overwrites_neither_its_start_nor_what_the_loss_handed_back():
    constant = torch.ones(2, NET.p, dtype=torch.float64)

    class Line(torch.autograd.Function):
        """A loss whose gradient is a tensor that others hold."""

        @staticmethod
        def forward(ctx, theta):
            return theta.sum(1)

        @staticmethod
        def backward(ctx, grad):
            return constant

    theta = start(2)
    descend(lambda at, step: Line.apply(at), theta, steps=3, rate=0.1, clip=0.5)
    assert torch.equal(theta, start(2)) and torch.equal(constant, torch.ones_like(constant))
