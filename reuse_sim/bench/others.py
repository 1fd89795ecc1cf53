"""The same training step and the same gradients in other tools, each written as its users would write it.

Networks d-W-W-1 with tanh, mean squared error on fixed questions, SGD with momentum.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reuse_sim.nets import Mlp
from reuse_sim.rng import global_state, stream

RATE, MOMENTUM = 1e-3, 0.9
JAX_CHUNK = 25


def _tool(module: str) -> Any:
    """A module that need not be installed, and whose types are its own affair."""
    return import_module(module)


def loop(net: Mlp, theta: Tensor, x: Tensor, y: Tensor, steps: int) -> Callable[[], object]:
    """One `nn.Module` and one optimiser after another."""
    sizes, models = net.sizes, []
    for row in theta:
        layers: list[nn.Module] = []
        for k, (a, b) in enumerate(zip(sizes, sizes[1:], strict=False)):
            layers += [nn.Linear(a, b)] + ([nn.Tanh()] if k < len(sizes) - 2 else [])
        model = nn.Sequential(*layers)
        nn.utils.vector_to_parameters(row.clone(), model.parameters())
        models.append((model, torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM)))

    def repeat() -> None:
        for model, optimizer in models:
            for _ in range(steps):
                optimizer.zero_grad()
                nn.functional.mse_loss(model(x), y).backward()
                optimizer.step()

    return repeat


def vmap(net: Mlp, theta: Tensor, x: Tensor, y: Tensor, steps: int) -> Callable[[], object]:
    """`torch.func.vmap` of `grad` over the stack."""
    gradient = torch.func.vmap(torch.func.grad(lambda row: (net.forward(row, x) - y).square().mean()))
    now, moment = theta.clone(), torch.zeros_like(theta)

    def repeat() -> None:
        for _ in range(steps):
            moment.mul_(MOMENTUM).add_(gradient(now))
            now.add_(moment, alpha=-RATE)

    return repeat


def vmap_gradients(net: Mlp, theta: Tensor, x: Tensor, y: Tensor) -> Callable[[], object]:
    gradient = torch.func.vmap(torch.func.grad_and_value(lambda row: (net.forward(row, x) - y).square().mean()))
    return lambda: gradient(theta)


def _jax_loss(net: Mlp, x: Tensor, y: Tensor) -> Callable:
    jnp = _tool("jax.numpy")
    fields, questions, truth = net.fields, jnp.asarray(x.numpy()), jnp.asarray(y.numpy())
    last = len(net.sizes) - 2

    def loss(row):
        h, parts = questions, {f.name: row[f.slice].reshape(f.shape) for f in fields}
        for k in range(last + 1):
            h = h @ parts[f"weight{k}"].T + parts[f"bias{k}"]
            h = h if k == last else jnp.tanh(h)
        return ((h - truth) ** 2).mean()

    return loss


def jax_train(net: Mlp, theta: Tensor, x: Tensor, y: Tensor, steps: int, chunk: int | None) -> Callable[[], object]:
    """`jit(vmap)` of the whole training, or the same mapped over chunks of networks."""
    jax = _tool("jax")
    gradient = jax.grad(_jax_loss(net, x, y))

    def one(row):
        def step(carried, _):
            now, moment = carried
            moment = MOMENTUM * moment + gradient(now)
            return (now - RATE * moment, moment), None

        return jax.lax.scan(step, (row, 0 * row), None, length=steps)[0][0]

    train = jax.jit(jax.vmap(one) if chunk is None else lambda rows: jax.lax.map(jax.vmap(one), rows))
    rows = theta.numpy()
    rows = jax.numpy.asarray(rows if chunk is None else rows.reshape(-1, chunk, net.p))
    return lambda: train(rows).block_until_ready()


def jax_gradients(net: Mlp, theta: Tensor, x: Tensor, y: Tensor, chunk: int | None) -> Callable[[], object]:
    jax = _tool("jax")
    each = jax.vmap(jax.value_and_grad(_jax_loss(net, x, y)))
    function = jax.jit(each if chunk is None else lambda rows: jax.lax.map(each, rows))
    rows = theta.numpy()
    rows = jax.numpy.asarray(rows if chunk is None else rows.reshape(-1, chunk, net.p))
    return lambda: jax.block_until_ready(function(rows))


def pyro_nuts(net: Mlp, x: Tensor, y: Tensor, samples: int) -> tuple[Callable[[], object], Callable[[], int]]:
    """Pyro's NUTS, one chain; also how many gradients the last run took."""
    mcmc = _tool("pyro.infer.mcmc")
    count = 0

    def potential(parameters: dict[str, Tensor]) -> Tensor:
        nonlocal count
        count += 1
        row = parameters["theta"]
        return row.square().sum() / 2 + len(x) * (net.forward(row, x) - y).square().mean()

    def repeat() -> None:
        nonlocal count
        count = 0
        kernel = mcmc.NUTS(potential_fn=potential, step_size=0.02, adapt_step_size=False, max_tree_depth=6)
        start = {"theta": torch.zeros(net.p)}
        with global_state(stream(0, "bench")):
            chain = mcmc.MCMC(kernel, samples, warmup_steps=1, initial_params=start, disable_progbar=True)
            chain.run()

    return repeat, lambda: count


def blackjax_nuts(
    net: Mlp, theta: Tensor, x: Tensor, y: Tensor, samples: int
) -> tuple[Callable[[], object], Callable[[], int]]:
    """BlackJAX's NUTS, all chains under `vmap`."""
    blackjax, jax, jnp = _tool("blackjax"), _tool("jax"), _tool("jax.numpy")
    loss, n = _jax_loss(net, x, y), len(x)
    kernel = blackjax.nuts(
        lambda row: -(row**2).sum() / 2 - n * loss(row), 0.02, jnp.ones(net.p), max_num_doublings=6
    )

    def chain(key, row):
        def step(state, key):
            state, info = kernel.step(key, state)
            return state, info.num_integration_steps

        return jax.lax.scan(step, kernel.init(row), jax.random.split(key, samples))[1].sum()

    run = jax.jit(jax.vmap(chain))
    keys, rows = jax.random.split(jax.random.key(0), len(theta)), jnp.asarray(theta.numpy())
    taken = 0

    def repeat() -> None:
        nonlocal taken
        taken = int(np.asarray(run(keys, rows)).sum())

    return repeat, lambda: taken


def numpyro_nuts(net: Mlp, theta: Tensor, x: Tensor, y: Tensor, warmup: int, samples: int) -> Callable[[int], Tensor]:
    """NumPyro's NUTS in its own compiled loop, four chains one after another, so that none waits for another's trees.

    Warmed up; gives draws `(4, samples, p)`.
    """
    infer, jax, jnp = _tool("numpyro.infer"), _tool("jax"), _tool("jax.numpy")
    loss, n = _jax_loss(net, x, y), len(x)
    kernel = infer.NUTS(potential_fn=lambda row: (row**2).sum() / 2 + n * loss(row), target_accept_prob=0.8)
    chains = infer.MCMC(kernel, num_warmup=warmup, num_samples=samples, num_chains=4,
                        chain_method="sequential", progress_bar=False)
    chains.warmup(jax.random.key(0), init_params=jnp.asarray(theta[:4].numpy()))

    def draw(seed: int) -> Tensor:
        chains.run(jax.random.key(seed))
        return torch.from_numpy(np.array(chains.get_samples(group_by_chain=True)))

    return draw


def ball(d: int, radius2: float) -> tuple[Callable, int]:
    """C of `cases.ball`, as NumPy and JAX take it, and its dimension."""
    return lambda theta, np=np: np.sum(theta**2) / 2, d


def quadratic(spectrum: tuple[float, ...], shift: float, strength: float) -> tuple[Callable, int]:
    """C of `cases.evidence`, likewise."""
    h = np.asarray(spectrum)
    return lambda theta, np=np: np.sum(h * (theta - shift) ** 2) / 2, len(h)


def dynesty(cost: Callable, d: int, problem: Any, seed: int) -> float:
    """Bits by dynesty's nested sampling, 500 live points, as it is set up: of the volume where C first is within the
    tolerance, or of the evidence."""
    from scipy.special import ndtri

    tool = _tool("dynesty")
    strength = 1.0 if problem.hard else problem.strength
    sampler = tool.NestedSampler(lambda theta: -strength * cost(theta), ndtri, d, nlive=500,
                                 rstate=np.random.default_rng(seed + 1))
    if problem.hard:
        sampler.run_nested(print_progress=False, logl_max=-problem.tolerance, dlogz=1e-12, add_live=False)
        inside = sampler.results.logl >= -problem.tolerance
        logvol = sampler.results.logvol[np.argmax(inside)] if inside.any() else sampler.results.logvol[-1]
        return float(-logvol / np.log(2))
    sampler.run_nested(print_progress=False)
    return float(-sampler.results.logz[-1] / np.log(2))


def blackjax_smc(cost: Callable, d: int, problem: Any, seed: int) -> float:
    """Bits of evidence by BlackJAX's adaptive tempered SMC: 1000 particles, 5 HMC moves of 10 steps per stage."""
    blackjax, jax, jnp = _tool("blackjax"), _tool("jax"), _tool("jax.numpy")
    smc = _tool("blackjax.smc.resampling")
    parameters = {"step_size": jnp.array([0.1]), "inverse_mass_matrix": jnp.ones((1, d)),
                  "num_integration_steps": jnp.array([10])}
    sampler = blackjax.adaptive_tempered_smc(
        lambda theta: -jnp.sum(theta**2) / 2, lambda theta: -problem.strength * cost(theta, jnp),
        blackjax.hmc.build_kernel(), blackjax.hmc.init, parameters, smc.systematic, 0.5, num_mcmc_steps=5,
    )  # fmt: skip
    at = jax.random.key(seed + 1)
    first, at = jax.random.split(at)
    state, step, nats = sampler.init(jax.random.normal(first, (1000, d))), jax.jit(sampler.step), 0.0
    while float(getattr(state, "lmbda", getattr(state, "tempering_param", 1.0))) < 1:
        now, at = jax.random.split(at)
        state, info = step(now, state)
        nats += float(info.log_likelihood_increment)
    return float(-nats / np.log(2))
