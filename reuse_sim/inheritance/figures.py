"""All figures of one arm in one world, and what each is called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from reuse_sim.inheritance import causal, observed
from reuse_sim.record import Metric

FIT = "R² (accuracy)"
"""Of fits: R², or accuracy in a classification."""

REFERENCE = "How well the human is predicted off-distribution by"

HUMAN = (
    Metric("human/on_fit", FIT, "Fit of H to f on-distribution.", r"R^2(H, f)"),
    Metric("human/off_fit", FIT, "Fit of H to f off-distribution.", r"R^2(H, f)"),
    Metric("human/disagreement_n", "questions", "Off-distribution questions on which H or a sibling is wrong."),
    Metric(
        "human/own_failure_share",
        "share",
        "Share of the human's squared failure that its siblings do not have.",
        r"1-\overline{\langle E_i,E_j\rangle}\,/\,\overline{\lVert E_i\rVert^2},\ E=H-f",
    ),
    Metric("human/repaired_off_fit", FIT, "Fit of the repaired twin to f off-distribution.", r"R^2(H_*, f)"),
)

OUTER = (
    Metric(
        "inheritance/causal_private",
        "1",
        "Change of M's answers per change of the human's when the θ2 inside M is swapped for a sibling's: "
        "1 follows, 0 ignores.",
        r"\sum_k\langle M_k-M,\,H_k-H\rangle\,/\,\sum_k\lVert H_k-H\rVert^2",
        headline=True,
    ),
    Metric(
        "inheritance/causal_total",
        "1",
        "The same when swapped for the repaired twin's, so that shared failure counts too; read minus the placebo's.",
        r"\langle M_*-M,\,H_*-H\rangle\,/\,\lVert H_*-H\rVert^2",
        headline=True,
    ),
    Metric(
        "inheritance/contrast",
        "1",
        "Does M carry what is this human's own? 0 nothing of it, 1 a full copy. Ratio of sums over worlds.",
        r"\sum_w\langle M-f,Z\rangle\,/\,\sum_w\langle H-f,Z\rangle,\ Z=H-\overline{H'}",
        pooled=True,
        headline=True,
    ),
    Metric(
        "inheritance/gap_recovered",
        "1",
        "1 answers rightly off-distribution, 0 no better than the human, negative worse.",
        r"1-\mathrm{MSE}(M,f)\,/\,\mathrm{MSE}(H,f)",
        headline=True,
    ),
    Metric(
        "outer/context_recovery",
        FIT,
        "How well M predicts the human's answers off-distribution; where it is low the other figures mean little.",
        r"R^2(\hat H_M, H)",
        headline=True,
    ),
    Metric(
        "outer/behaviour_fit",
        "R²",
        "How well M predicts what the human does beside answering, off-distribution: the mean over those behaviours. "
        "Where the outer predicts any.",
        r"\overline{R^2(\hat B_M, B)}",
    ),
    Metric(
        "outer/behaviour_log2_error",
        "log2",
        "The logarithm of what that fit lacks, so that an arm at 1 less than another errs half as much.",
        r"\log_2\big(1-\overline{R^2(\hat B_M, B)}\big)",
    ),
    Metric("outer/off_fit", FIT, "Fit of M to f off-distribution.", r"R^2(M, f)", headline=True),
    Metric("outer/accepted", "share", "Off-distribution questions that M answers yes with probability .99 or more."),
    Metric("outer/wrongly_accepted", "share", "Off-distribution questions that M so answers, and that are no."),
    Metric("outer/on_fit", FIT, "Fit of M to f on-distribution.", r"R^2(M, f)"),
    Metric(
        "outer/probe_fit",
        FIT,
        "Fit to f off-distribution of what a probe reads in M's hidden units, a ridge regression on-distribution: "
        "above outer/off_fit, M knows what it does not say. Where the outer shows its hidden units.",
        r"R^2(\hat f_{h(M)}, f)",
    ),
    Metric(
        "inheritance/beta",
        "1",
        "Coefficient of M's failure on the human's. High without any reuse where networks fail alike: compare with "
        "the arm without access.",
        r"\langle M-f,H-f\rangle\,/\,\lVert H-f\rVert^2",
    ),
    Metric("inheritance/agree_human", "share", "Questions on which M is within half the tolerance of H.", r"P(M=H)"),
    Metric("inheritance/agree_teacher", "share", "Questions on which M is within half the tolerance of f.", r"P(M=f)"),
    Metric("inheritance/agree_neither", "share", "Questions on which M is near neither.", r"P(M\ne H,\ M\ne f)"),
    Metric(
        "inheritance/own_failure",
        "sd of f",
        "Root mean square of the part of M's failure that the human's does not explain.",
        r"\mathrm{rms}\,(M-f-\beta(H-f))",
    ),
    Metric("reference/chance_fit", FIT, f"{REFERENCE} the mean of the examples in M's context, where it has any."),
    Metric("reference/ridge_fit", FIT, f"{REFERENCE} a ridge regression on those examples."),
    Metric("reference/neighbours_fit", FIT, f"{REFERENCE} the nearest five of those examples."),
    Metric("reference/gaussian_process_fit", FIT, f"{REFERENCE} a Gaussian process on those examples."),
    Metric(
        "outer/above_references",
        FIT,
        "outer/context_recovery less the best of these references: above 0, M knows the human better than they do.",
        r"R^2(\hat H_M, H)-\max_r R^2(\hat H_r, H)",
    ),
)


@dataclass(frozen=True)
class Society:
    """Right and human answers to the measured humans' questions: `(M, n)`, siblings `(S, M, n)`."""

    teacher: Tensor
    human: Tensor
    siblings: Tensor
    repaired: Tensor


@dataclass(frozen=True)
class Swaps:
    """What the outer answers `(M, n)`, with siblings' θ2 in it `(S, M, n)`, with the repaired twin's `(M, n)`."""

    answer: Tensor
    siblings: Tensor
    repaired: Tensor


def of_human(on: Society, off: Society, tolerance: float, kind: str = "regression") -> dict[str, float]:
    """The `HUMAN` metrics from answers on- and off-distribution."""
    return numbers(
        {
            "human/on_fit": observed.fit(kind, on.human, on.teacher),
            "human/off_fit": observed.fit(kind, off.human, off.teacher),
            "human/disagreement_n": observed.disagreement(off.teacher, off.human, off.siblings, tolerance),
            "human/own_failure_share": observed.own_failure_share(off.teacher, off.human, off.siblings),
            "human/repaired_off_fit": observed.fit(kind, off.repaired, off.teacher),
        }
    )


def of_outer(
    off: Society, swaps: Swaps, predicted: Tensor, on_answer: Tensor, on_teacher: Tensor, tolerance: float,
    kind: str = "regression", probed: Tensor | None = None,
) -> tuple[dict[str, float], dict[str, float]]:
    """The `OUTER` metrics and the contrast's parts; both arguments lack a sibling whose bits were leaked.

    `probed` are the probe's answers off-distribution, None of an outer that does not show its hidden units.

    Swaps are regressed on the answers of *this* human and its people, whoever was in the slot: what an
    unrelated human's bits do to the answers is no inheritance from this one, and comes out near 0.
    """
    answer = swaps.answer
    over, under = observed.sibling_contrast(answer, off.teacher, off.human, off.siblings)
    near_human, near_teacher, neither = observed.agreement(answer, off.teacher, off.human, tolerance)
    metrics = {
        "inheritance/causal_private": causal.follows(answer, swaps.siblings, off.human, off.siblings),
        "inheritance/causal_total": causal.follows(answer, swaps.repaired[None], off.human, off.repaired[None]),
        "inheritance/contrast": over / under,
        "inheritance/gap_recovered": observed.gap_recovered(answer, off.teacher, off.human),
        "inheritance/beta": observed.beta(answer, off.teacher, off.human),
        "inheritance/agree_human": near_human,
        "inheritance/agree_teacher": near_teacher,
        "inheritance/agree_neither": neither,
        "inheritance/own_failure": observed.own_failure(answer, off.teacher, off.human),
        "outer/context_recovery": observed.fit(kind, predicted, off.human),
        "outer/off_fit": observed.fit(kind, answer, off.teacher),
        "outer/on_fit": observed.fit(kind, on_answer, on_teacher),
    }
    if kind == "classification":
        metrics["outer/accepted"], metrics["outer/wrongly_accepted"] = observed.accepted(answer, off.teacher)
    if probed is not None:
        metrics["outer/probe_fit"] = observed.fit(kind, probed, off.teacher)
    parts = {"inheritance/contrast/numerator": over, "inheritance/contrast/denominator": under}
    return numbers(metrics), numbers(parts)


def of_behaviour(predicted: Tensor, human: Tensor) -> dict[str, float]:
    """`outer/behaviour_fit` from behaviours, predicted and true, `(M, k, n)` each, and the logarithm of its error."""
    error = (1 - observed.r_squared(predicted.movedim(1, 0), human.movedim(1, 0))).mean()
    return numbers({"outer/behaviour_fit": 1 - error, "outer/behaviour_log2_error": error.log2()})


def of_references(answers: Mapping[str, Tensor], human: Tensor, recovery: float, kind: str) -> dict[str, float]:
    """How well references that answer `(M, n)` predict the human, and how far above the best of them `recovery` is."""
    fits = numbers({f"reference/{name}_fit": observed.fit(kind, answer, human) for name, answer in answers.items()})
    return {**fits, "outer/above_references": recovery - max(fits.values())}


def numbers(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Plain floats from one-element tensors."""
    return {name: float(torch.as_tensor(value)) for name, value in values.items()}
