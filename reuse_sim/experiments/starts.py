"""The stages of one world whose starts stand for humans: its people, searches, codes and masses.

Each is a function of what came before, its configuration and the seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from reuse_sim.artifacts import Stored
from reuse_sim.errors import InputError
from reuse_sim.experiments import teacher_codes
from reuse_sim.experiments.started import Scene, as_values, information, rounded_bits, sampler
from reuse_sim.inheritance import observed
from reuse_sim.joint import linear
from reuse_sim.joint.budget import budget, order_sd
from reuse_sim.joint.preimage import preimage
from reuse_sim.joint.recover import recover
from reuse_sim.joint.replay import replays
from reuse_sim.joint.unrolled import supervised
from reuse_sim.ledger.shortest import shortest
from reuse_sim.rng import stream, streams

if TYPE_CHECKING:
    from reuse_sim.experiments.joint_init import Config

TOLERANCES = (0.001, 0.003, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2)
"""Drifts from the human at which codes may be written."""
DECIDING = (0.01, 0.05, 0.1)
"""Those that claims are decided at."""
MIDDLE = 0.05
"""The one at which numbers of training steps are compared."""


def label(tolerance: float) -> str:
    """`10`, in percent."""
    return f"{100 * tolerance:g}"


def train_people(config: Config, seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """One start, what it becomes by each number of steps, fresh starts, and whether it does so again."""
    scene = Scene(config, seed)
    theta_0 = scene.net.init([stream(seed, "human/init")], torch.float64)
    fresh = scene.net.init(streams(seed, [f"search/{i}" for i in range(config.searches)]), torch.float64)
    humans = torch.cat([scene.process(steps)(theta_0) for steps in config.efforts])
    process = scene.process(config.efforts[-1])
    among_others = process(torch.cat([fresh, theta_0]))[-1:]
    exact = replays(process, theta_0, humans[-1:]) and torch.equal(among_others, humans[-1:])
    fits = [float(observed.r_squared(scene.net.forward(humans[-1:], x)[..., 0], scene.world.answer(scene.theta_1, x)))
            for x in (scene.on, scene.off)]
    return ({"theta_0": theta_0[0], "humans": humans, "fresh": fresh}, {
        "broken": not bool(humans.isfinite().all()),
        "metrics": {"human/on_fit": fits[0], "human/off_fit": fits[1], "replay/exact": float(exact),
                    "budget/excess_bits": linear_excess(stream(seed, "budget"))}})


def search(people: Stored, config: Config, seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """For each number of steps, searches from the same fresh starts: steps and success by tolerance."""
    scene, out, best = Scene(config, seed), {}, people.tensors["fresh"]
    for theta, steps in zip(people.tensors["humans"], config.efforts, strict=True):
        process = scene.process(steps)
        training = supervised(scene.net, process.x, process.y, steps, process.optimizer)
        tolerances = DECIDING if steps == config.efforts[-1] else (MIDDLE,)
        found = recover(training, people.tensors["fresh"], scene.sd, scene.drift(theta), tolerances,
                        steps=config.search_steps, rate=config.search_rate)
        flops = found.flops(process.flops) / process.flops
        said = {"steps": found.steps, "reached": found.reached, "drift": found.drift, "trainings": flops}
        out[str(steps)] = {label(t): {name: value[k].tolist() for name, value in said.items()}
                           for k, t in enumerate(tolerances)}
        # By tolerance, the start of the search that was first, or that came nearest.
        first = (found.steps.double() + found.drift).argmin(1)
        best = found.theta[torch.arange(len(first)), first]
    return {"theta_0": best}, out


def write_codes(people: Stored, found: Stored, config: Config, seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Codes of θ2 and of its start at all tolerances; of θ1 and of a start that was found at those that decide."""
    scene, process = Scene(config, seed), Scene(config, seed).process(config.efforts[-1])
    theta_2, drift = people.tensors["humans"][-1], scene.drift(people.tensors["humans"][-1])

    def of_start(theta_0: Tensor) -> Tensor:
        return drift(process(theta_0))

    metrics: dict[str, float | None] = {}
    said, trouble = {}, []

    def keep(name: str, told: Callable[[], int]) -> None:
        try:
            metrics[name] = float(told())
        except InputError as error:
            metrics[name] = None
            trouble.append(f"{name}: {error}")

    def write(name: str, theta: Tensor, distortion: Callable[[Tensor], Tensor], tolerance: float) -> None:
        def told() -> int:
            code = shortest(theta, scene.sd, distortion, tolerance, f"{seed}/{name}", "uniform")
            said[name] = code.distortion
            return code.bits

        keep(name, told)

    def write_teacher(name: str, error: float) -> None:
        keep(name, lambda: teacher_codes.told(scene.world, scene.theta_1, scene.asked, error, f"{seed}/{name}")[1])

    for t in sorted({*config.curve, *DECIDING}):
        write(f"human_bits/at_{label(t)}", theta_2, drift, t)
        write(f"init_bits/at_{label(t)}", people.tensors["theta_0"], of_start, t)
        metrics[f"plain_human_bits/at_{label(t)}"] = rounded_bits(theta_2, scene.sd, drift, t)
        metrics[f"plain_init_bits/at_{label(t)}"] = rounded_bits(people.tensors["theta_0"], scene.sd, of_start, t)
    for t, theta_0 in zip(DECIDING, found.tensors["theta_0"], strict=True):
        write_teacher(f"ledger/teacher_bits_at_{label(t)}", t * float(scene.variance))
        if any(found.values[str(config.efforts[-1])][label(t)]["reached"]):
            write(f"ledger/found_bits_at_{label(t)}", theta_0, of_start, t)
        else:
            metrics[f"ledger/found_bits_at_{label(t)}"] = None
            trouble.append(f"no search got to {label(t)} %: take more searches or search_steps")
    return {}, {"metrics": metrics, "said": said, "trouble": trouble}


def weigh(people: Stored, config: Config, seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Both masses of the last human at the tolerances that decide, of the others at the middle one; bits about f."""
    scene, out = Scene(config, seed), {}
    for theta, steps in zip(people.tensors["humans"], config.efforts, strict=True):
        tolerances = DECIDING if steps == config.efforts[-1] else (MIDDLE,)
        process, drift = scene.process(steps), scene.drift(theta)
        out[str(steps)] = {
            "masses": {label(t): as_values(preimage(drift, process, sampler(scene, t, f"{steps}/{t}")))
                       for t in tolerances},
            **information(scene, theta, f"{steps}/information"),
        }
    return {}, out


def linear_excess(generator: torch.Generator) -> float:
    """|I(θ2; teacher) + I(θ2; start) + I(θ2; order) − |θ2|| of a random linear world, |θ2| from a determinant."""
    d, rate, steps, resolution = 8, 0.05, 40, 0.1
    curvatures = torch.rand(d, generator=generator, dtype=torch.float64).numpy() * 2
    a, q = linear.factors(curvatures, rate, steps), order_sd(curvatures, rate, steps, np.ones(d))
    shares = budget(a, 1.0, 0.5, q, resolution)
    mixing = np.concatenate([np.diag(1 - a), 0.5 * np.diag(a), np.diag(q)], 1)
    whole = np.linalg.slogdet(np.eye(d) + mixing @ mixing.T / resolution**2)[1] / (2 * math.log(2))
    return float(abs(shares.teacher + shares.start + shares.order - whole))
