"""How do an outer model's error and its inheritance go with its size and its data?

One cell is one world: its people once, and at every point of a grid of widths and label budgets the outers of all arms,
as in the reuse experiment. Per arm a law of size and data is fitted to the error on-distribution.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field, field_validator

from reuse_sim import laws
from reuse_sim.artifacts import Store
from reuse_sim.errors import InputError
from reuse_sim.experiments import reuse
from reuse_sim.inheritance import figures
from reuse_sim.laws import Fit
from reuse_sim.plugins import Plugin, plugin
from reuse_sim.record import Measured, Metric

METHOD = (
    "Worlds, people and arms are those of the reuse experiment. In each world outers of every width N, counted in "
    "parameters of their own, are trained with every number D of labelled on-distribution questions, on the same "
    "streams. Per world and arm, L(N, D) = [(N_c/N)^(α_N/α_D) + D_c/D]^α_D is fitted to ln(1 − outer/on_fit) by least "
    "squares over the grid, with standard errors from its covariance; slopes of inheritance are least squares on "
    "log₂ N and log₂ D."
)

LAW = (
    Metric("scaling/alpha_n", "1", "Exponent of error in size, data being without end.", r"L\sim N^{-\alpha_N}",
           headline=True),
    Metric("scaling/alpha_d", "1", "Exponent of error in data, size being without end.", r"L\sim D^{-\alpha_D}",
           headline=True),
    Metric("scaling/alpha_n_se", "1", "Standard error of the former within the fit of one world."),
    Metric("scaling/alpha_d_se", "1", "Standard error of the latter, likewise."),
    Metric("scaling/r_squared", "R²", "Share of the variance of ln L over the grid that the law explains.",
           headline=True),
    Metric("scaling/misfit", "ln L", "Residual standard deviation of ln L about the law."),
)  # fmt: skip
REUSE = (
    Metric("scaling/inheritance_slope_n", "1", "Change of inheritance/causal_private per doubling of N.",
           headline=True),
    Metric("scaling/inheritance_slope_d", "1", "The same per doubling of D.", headline=True),
    *(Metric(f"scaling/{key}_{end}", unit, f"{name} of the {where} outer with the {least} labels.")
      for key, name, unit in (("private", "inheritance/causal_private", "1"), ("off_fit", "outer/off_fit", figures.FIT))
      for end, where, least in (("small", "narrowest", "fewest"), ("large", "widest", "most"))),
)  # fmt: skip
METRICS = LAW + REUSE + figures.HUMAN

FINE = 17
"""Points a side of the fitted surface that a record carries."""


class Config(reuse.Config):
    widths: tuple[Annotated[int, Field(gt=0, le=4096)], ...] = Field(description="widths of the outer model")
    labelled: tuple[Annotated[int, Field(gt=0, le=100_000)], ...] = Field(
        description="numbers of labelled on-distribution questions"
    )

    @field_validator("outer")
    @classmethod
    def _of_any_width(cls, outer: Annotated[Plugin, plugin("outers")]) -> Plugin:
        if "width" not in outer.options:
            raise ValueError("an outer model with an option 'width'")
        return outer

    @field_validator("widths", "labelled")
    @classmethod
    def _three_or_more_growing(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if len(values) < 3 or list(values) != sorted(set(values)):
            raise ValueError("three or more numbers, the smallest first")
        return values


def check(arms: Mapping[str, Config]) -> None:
    """As in the reuse experiment, for every width; and the arms must share one grid."""
    first, grid = next(iter(arms)), _grid(arms)
    for name, arm in arms.items():
        if (arm.widths, arm.labelled) != (arms[first].widths, arms[first].labelled):
            raise InputError(f"arm {name}: widths, labelled", (arm.widths, arm.labelled), f"those of arm {first}")
    for width in grid[0]:
        reuse.check(_at(arms, width, grid[1][0]))


def cell(arms: Mapping[str, Config], seed: int, store: Store) -> Mapping[str, Measured]:
    """One world: the reuse experiment at every point of the grid, then the fits.

    An arm whose training broke at one point is failed and says where; a world whose human does not fail is excluded.
    """
    grid = _grid(arms)
    found: dict[tuple[int, int], Mapping[str, Measured]] = {}
    for point in ((w, d) for w in grid[0] for d in grid[1]):
        found[point] = reuse.cell(_at(arms, *point), seed, store)
        if all(m.status == "undecided" for m in found[point].values()):
            return found[point]
    out = {}
    for name, arm in arms.items():
        at = {point: measured[name] for point, measured in found.items()}
        human = {m.name: at[grid[0][0], grid[1][0]].metrics[m.name] for m in figures.HUMAN}
        sha256 = hashlib.sha256("".join(m.parameters_sha256 for m in at.values()).encode()).hexdigest()
        broken = [f"width {w}, {d} labels: {m.reason}" for (w, d), m in at.items() if m.status != "ok"]
        if broken:
            out[name] = Measured(human, {}, sha256, "failed", broken[0])
            continue
        tables = {key: _table(grid, at, key) for key in ("outer/on_fit", "outer/off_fit", "inheritance/causal_private")}
        metrics, diagnostics, why = measure(_sizes(arm), grid[1], *tables.values())
        out[name] = Measured({**metrics, **human}, {"scaling": diagnostics}, sha256, reason=why)
    return out


def memory_bytes(arms: Mapping[str, Config]) -> int:
    """Peak of one cell: its widest outers."""
    widths, labelled = _grid(arms)
    return reuse.memory_bytes(_at(arms, max(widths), max(labelled)))


def measure(
    n: Sequence[int], d: Sequence[int], on_fit: Any, off_fit: Any, private: Any
) -> tuple[dict[str, float | None], dict[str, Any], str]:
    """The `LAW` and `REUSE` metrics of tables `(sizes, data)`, what the page draws, and why a metric is None."""
    losses = 1 - np.asarray(on_fit)
    size, data = np.meshgrid(np.array(n, dtype=float), np.array(d, dtype=float), indexing="ij")
    try:
        fit = laws.fit(size, data, losses)
    except InputError as e:
        fit = Fit(why=f"no law: {e}")
    metrics: dict[str, float | None] = dict.fromkeys(m.name for m in LAW)
    if fit.law:
        metrics |= {"scaling/r_squared": fit.r_squared, "scaling/misfit": fit.residual_sd}
    for key in ("alpha_n", "alpha_d"):
        if fit.law and fit.se and key not in fit.unknown:
            metrics |= {f"scaling/{key}": getattr(fit.law, key), f"scaling/{key}_se": getattr(fit.se, key)}
    doublings = np.column_stack([np.log2(size).ravel(), np.log2(data).ravel(), np.ones(size.size)])
    slopes = np.linalg.lstsq(doublings, np.ravel(private), rcond=None)[0]
    metrics |= {f"scaling/inheritance_slope_{a}": float(s) for a, s in zip("nd", slopes[:2], strict=True)}
    for key, table in (("private", private), ("off_fit", off_fit)):
        metrics |= {f"scaling/{key}_small": float(table[0][0]), f"scaling/{key}_large": float(table[-1][-1])}
    silent = [name for name, value in metrics.items() if value is None]
    why = f"{fit.why} ({', '.join(silent)})" if silent else ""
    shown = {"n": list(n), "d": list(d), "loss": losses.tolist(), "private": np.asarray(private).tolist()}
    return metrics, {**shown, "why": fit.why, "unknown": list(fit.unknown), **_fitted(fit, size, data)}, why


def _fitted(fit: Fit, size: Any, data: Any) -> dict[str, Any]:
    """What the law says at the grid's points and between its ends, and its constants."""
    if fit.law is None or fit.se is None:
        return {}
    n, d = (np.geomspace(axis.min(), axis.max(), FINE) for axis in (size, data))
    between = np.log(laws.loss(fit.law, n[:, None], d)).round(4)
    drawn = {
        "fitted": laws.loss(fit.law, size, data).tolist(),
        "surface": {"n": n.tolist(), "d": d.tolist(), "log_loss": between.tolist()},
        "law": asdict(fit.law),
    }
    if fit.unknown:
        return drawn
    return drawn | {"standard_errors": asdict(fit.se), "cusp": laws.cusp(fit.law, size[:, 0]).tolist()}


def _grid(arms: Mapping[str, Config]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    one = next(iter(arms.values()))
    return one.widths, one.labelled


def _at(arms: Mapping[str, Config], width: int, labelled: int) -> dict[str, reuse.Config]:
    """The arms at one point of the grid, as the reuse experiment takes them."""
    return {
        name: reuse.Config.model_construct(**{
            **{field: getattr(arm, field) for field in reuse.Config.model_fields},
            "outer": _of_width(arm.outer, width),
            "training": arm.training.model_copy(update={"labelled": labelled}),
        })
        for name, arm in arms.items()
    }  # fmt: skip


def _sizes(arm: Config) -> list[int]:
    """Parameters of the outer's own at every width."""
    net = arm.human.build().net(arm.world.build())
    return [_of_width(arm.outer, width).build().init(net, [torch.Generator()]).numel() for width in arm.widths]


def _of_width(outer: Plugin, width: int) -> Plugin:
    return outer.model_copy(update={"options": {**outer.options, "width": width}})


def _table(grid: tuple[Sequence[int], Sequence[int]], at: Mapping[tuple[int, int], Measured], key: str) -> Any:
    return [[at[w, d].metrics[key] for d in grid[1]] for w in grid[0]]
