"""One trainer for every population of networks, each on its own: `train`, `value_and_grad`, `descend`.

Nothing couples the networks: one alone gives what it gives among others, whatever the chunks and threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

import torch
from torch import Tensor

from reuse_sim.engines import checks, choose, loop
from reuse_sim.engines.spec import (
    BLOCK,
    Adam,
    AdamW,
    Engine,
    Fixed,
    Head,
    Network,
    Optimizer,
    Questions,
    Rows,
    Schedule,
    Work,
    need,
    rates,
)
from reuse_sim.machine import one_thread
from reuse_sim.types import Fit


@dataclass(frozen=True)
class Progress:
    """How far a training is: `done` of `networks` × `steps` network-steps, and what is left of it in seconds."""

    done: int
    networks: int
    steps: int
    seconds_left: float

    @property
    def total(self) -> int:
        return self.networks * self.steps

    def __str__(self) -> str:
        share = 100 * self.done // self.total
        return f"{share} % of {self.networks:,} networks x {self.steps:,} steps, {_duration(self.seconds_left)} left"


def train(
    net: Network,
    theta_0: Tensor,
    questions: Questions,
    *,
    steps: int,
    optimizer: Optimizer,
    heads: Sequence[Head] = (Head(),),
    schedule: Schedule = "cosine",
    clip: float | None = None,
    stop_loss: float | None = None,
    save: Sequence[int] = (),
    engine: str = "auto",
    threads: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Fit:
    """Train N networks from `theta_0` `(N, p)`, float32 or float64, on the processor or a GPU.

    Args:
        questions: `Fixed` or `Fresh`; with several threads, called from all of them for different networks.
        heads: the losses, side by side in the outputs.
        clip: largest norm of one network's gradient, if any.
        stop_loss: a network whose loss is at most this stops there.
        save: the steps before which θ goes into `Fit.iterates`; `steps` is the end.
        engine: `auto`, `torch` or `numba`.
        threads: how many chunks of networks to train at once; as many as torch uses if not given.
        progress: told about once per second, and at the end, by the thread that happens to be there.

    A network whose loss or gradient is not finite keeps its last θ and is named in `Fit.broken`; the others
    go on. Raises InputError where the arguments do not fit together.
    """
    heads = tuple(heads)
    checks.parameters(net, theta_0)
    checks.outputs(net, heads)
    checks.descent(optimizer, schedule, steps, clip, stop_loss, save)
    need(threads is None or threads >= 1, "threads", threads, "at least 1")
    if isinstance(questions, Fixed):
        checks.fixed(questions, net, heads, theta_0)
    work = Work(net, heads, optimizer, clip, stop_loss)
    chosen = choose(engine, work, theta_0.dtype, theta_0.device)
    clock = _Clock(len(theta_0), steps, progress)
    each = rates(optimizer.rate, schedule, steps)
    training = _Training(chosen, work, theta_0.detach(), questions, each, tuple(save), clock)
    threads, n = threads or torch.get_num_threads(), len(theta_0)
    size = _chunk_size(chosen, n, threads) if theta_0.device.type == "cpu" else n
    _side_by_side(training, [slice(a, min(a + size, n)) for a in range(0, n, size)], threads)
    return training.fit()


def value_and_grad(
    net: Network, x: Tensor, y: Tensor, *, heads: Sequence[Head] = (Head(),), engine: str = "auto"
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A function from θ `(C, p)` to losses `(C,)` and gradients `(C, p)`, to be called often on the same questions.

    x is `(n, d)` or `(C, n, d)` and y `(n, t)` or `(C, n, t)`. The function keeps its buffers: one thread at a time.
    Raises InputError where the arguments do not fit together, the function where its θ does not.
    """
    heads, x, y = tuple(heads), x.detach(), y.detach()
    checks.outputs(net, heads)
    count = max((len(t) for t in (x, y) if t.dim() == 3), default=1)
    checks.rows(Rows(checks.stacked(x), checks.stacked(y)), net, heads, x.new_zeros(1).expand(count, net.p))
    chosen = choose(engine, Work(net, heads, Adam(0.0)), x.dtype, x.device)
    function, p = chosen.value_and_grad(net, heads, x, y), net.p

    def checked(theta: Tensor) -> tuple[Tensor, Tensor]:
        # The quick question first: samplers call this some ten thousand times a second.
        if not (theta.dim() == 2 and theta.shape[1] == p and theta.dtype == x.dtype and count in (1, len(theta))):
            checks.parameters(net, theta, "theta")
            need(theta.dtype == x.dtype, "theta", theta.dtype, f"{x.dtype}, as the questions", "Convert one of them.")
            need(count in (1, len(theta)), "theta", f"{len(theta)} rows", f"{count}, one for each network's questions")
        with one_thread():
            return function(theta.detach())

    return checked


def descend(
    loss: Callable[[Tensor, int], Tensor],
    theta_0: Tensor,
    *,
    steps: int,
    rate: float,
    schedule: Schedule = "cosine",
    clip: float | None = None,
    decay: float = 0.0,
) -> Fit:
    """Minimise each network's loss by Adam (Kingma & Ba 2015; β = .9, .999) from `theta_0` `(N, p)`.

    For losses that are no mean over questions: any that torch can differentiate.

    Args:
        loss: θ `(N, p)` and the step number to one loss per network `(N,)`. θ changes after the call.
        clip: largest gradient norm of one network, if any.
        decay: weight decay, as in AdamW.

    A network whose loss or gradient stops being finite keeps its last finite θ and is named in
    `Fit.broken` with step and rate; the others go on.
    """
    n, p = theta_0.shape
    layout = loop.Layout((p,))

    def gradients(theta: Tensor, members: list[int], rows: Rows, first: int) -> loop.Gradient:
        everyone, at = len(members) == n, theta.view(-1, p)

        def gradient(step: int) -> tuple[Tensor, Tensor]:
            # The loss is asked for all, also for those that have left.
            leaf = (at if everyone else loop.theta(state)).detach().requires_grad_()
            with torch.enable_grad():
                value = loss(leaf, step)
                (rowwise,) = torch.autograd.grad(value.sum(), leaf)
            value = value.detach()
            return (value, layout.flat(rowwise)) if everyone else (value[members], layout.flat(rowwise[members]))

        return gradient

    each = rates(rate, schedule, steps)
    state = loop.start(gradients, layout, theta_0, AdamW(rate, decay=decay) if decay else Adam(rate), clip)
    loop.advance(state, _NOTHING, 0, range(steps), each)
    return Fit(loop.theta(state), state.loss, _sentences(state.broken, each), engine="autograd")


_NOTHING = Rows(torch.empty(1, 0, 0), torch.empty(1, 0, 0))


# One training ----------------------------------------------------------------------------------------


@dataclass
class _Training:
    """A training under way; each chunk writes its own rows of the results."""

    engine: Engine
    work: Work
    theta_0: Tensor
    questions: Questions
    rates: list[float]
    save: tuple[int, ...]
    clock: _Clock

    def __post_init__(self) -> None:
        n, p = self.theta_0.shape
        self.theta, self.loss = torch.empty_like(self.theta_0), self.theta_0.new_empty(n)
        self.iterates = self.theta_0.new_empty(len(self.save), n, p)
        self.broken: dict[int, int] = {}
        self.stopped: dict[int, int] = {}
        self.abandoned = threading.Event()

    def chunk(self, members: slice) -> None:
        """Train some of the networks, or return early where all have left or another chunk has failed."""
        engine, steps, theta_0 = self.engine, len(self.rates), self.theta_0[members]
        state, count, step = engine.start(self.work, theta_0), len(theta_0), 0
        while step < steps and len(state.broken) + len(state.stopped) < count:
            if self.abandoned.is_set():
                return
            rows = self.questions.block(members)
            if not isinstance(self.questions, Fixed):
                checks.rows(rows, self.work.net, self.work.heads, theta_0)
            first, stop = step, min(step + BLOCK, steps)
            while step < stop:
                for k in (k for k, at in enumerate(self.save) if at == step):
                    self.iterates[k, members] = engine.theta(state)
                end = min([stop, *(at for at in self.save if at > step)])
                engine.advance(state, rows, first, range(step, end), self.rates)
                self.clock.count(count * (end - step))
                step = end
        self.theta[members], self.loss[members] = engine.theta(state), state.loss
        for k in (k for k, at in enumerate(self.save) if at >= step):
            self.iterates[k, members] = self.theta[members]
        self.broken |= {members.start + i: at for i, at in state.broken.items()}
        self.stopped |= {members.start + i: at for i, at in state.stopped.items()}
        self.clock.count(count * (steps - step))

    def fit(self) -> Fit:
        return Fit(
            self.theta,
            self.loss,
            _sentences(self.broken, self.rates),
            dict(sorted(self.stopped.items())),
            self.iterates if self.save else None,
            self.engine.NAME,
        )


def _sentences(broken: Mapping[int, int], rates: Sequence[float]) -> dict[int, str]:
    return {
        i: f"network {i}: loss not finite at step {step} with rate {rates[step]:.3g}"
        for i, step in sorted(broken.items())
    }


def _chunk_size(engine: Engine, n: int, threads: int) -> int:
    if threads == 1:
        return engine.CHUNK
    return max(engine.CHUNK, min(getattr(engine, "CROWD", engine.CHUNK), -(-n // threads)))


def _side_by_side(training: _Training, chunks: Sequence[slice], threads: int) -> None:
    """One parallel region over chunks: operations this small are slower on several threads each."""
    with one_thread():
        if min(threads, len(chunks)) == 1:
            for members in chunks:
                training.chunk(members)
            return
        # The number of torch's threads is each thread's own, inherited from whoever set it last.
        with ThreadPoolExecutor(min(threads, len(chunks)), "train", torch.set_num_threads, (1,)) as pool:
            try:
                for done in as_completed([pool.submit(training.chunk, members) for members in chunks]):
                    done.result()
            except BaseException:
                training.abandoned.set()
                pool.shutdown(cancel_futures=True)
                raise


class _Clock:
    """Counts network-steps and tells about once per second."""

    def __init__(self, networks: int, steps: int, tell: Callable[[Progress], None] | None) -> None:
        self.networks, self.steps, self.tell, self.done = networks, steps, tell, 0
        self.begin = self.told = time.monotonic()
        self.lock = threading.Lock()

    def count(self, more: int) -> None:
        if self.tell is None or not more:
            return
        with self.lock:
            self.done += more
            now, left = time.monotonic(), self.networks * self.steps - self.done
            if now - self.told >= 1 or not left:
                self.told = now
                self.tell(Progress(self.done, self.networks, self.steps, (now - self.begin) * left / self.done))


def _duration(seconds: float) -> str:
    """`45 s`, `1 min 20 s`, `2 h 3 min`."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours} h {m} min" if hours else f"{m} min {s} s" if m else f"{s} s"
