"""The page about a grid of sizes and data: its figure, whether exponents are known, and whether the form holds."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.contour import ContourSet

from tracking import report, scaling

N, D = [300.0, 700.0, 1400.0, 2800.0], [128.0, 512.0, 2048.0, 8192.0]
FORM = [[0.02 + 30 / n + 5 / d for d in D] for n in N]


def diagnostics(seed, common=0.0, known=True):
    """A world's grid: errors about a made-up law with residuals of its own, and others common to all worlds."""
    own = np.random.default_rng(seed).standard_normal((4, 4))
    loss = np.array(FORM) * np.exp(0.05 * own + common * (-1) ** np.arange(16).reshape(4, 4))
    return {
        "n": N, "d": D, "loss": loss.tolist(), "private": [[0.8 - 0.1 * i for _ in D] for i in range(4)],
        "fitted": FORM, "surface": {"n": N, "d": D, "log_loss": np.log(FORM).tolist()},
        "law": {"alpha_n": 0.5 + 0.1 * (seed % 2), "alpha_d": 0.4, "log_n_c": 1.0, "log_d_c": 1.0},
        "unknown": [] if known else ["alpha_n"], "why": "" if known else "not identified: alpha_n",
        **({"cusp": [100.0, 400.0, 1600.0, 6400.0]} if known else {}),
    }  # fmt: skip


@pytest.fixture
def made(make_sweep, make_records):
    """A sweep of eight worlds: in `half` the form misfits, in `placebo` α_N is not known, in `all` nothing fits."""
    sweep = make_sweep()
    records = []
    for r in make_records(sweep):
        found = diagnostics(r.seed, common=0.3 if r.arm == "half" else 0.0, known=r.arm != "placebo")
        if r.arm == "all":
            found = {k: v for k, v in found.items() if k not in ("fitted", "surface", "law", "cusp")}
            found |= {"why": "no law: loss: got 0.0", "unknown": []}
        records.append(replace(r, diagnostics={**r.diagnostics, "scaling": found}))
    return sweep, records


def rows(text):
    table = text[text.index("| arm | worlds | α_N"):].split("\n\n")[0]
    return {c[0]: c[1:] for c in ([c.strip() for c in line.strip("|").split("|")] for line in table.splitlines()[2:])}


def test_the_page_tells_where_the_form_misfits(tmp_path, made):
    text = report.write(*made, tmp_path).read_text()
    found = rows(text)
    assert "![error and inheritance by size and data](figures/scaling.svg)" in text
    assert (tmp_path / "figures" / "scaling.svg").exists() and (tmp_path / "figures" / "scaling.png").exists()
    assert found["none"][:3] == ["8", "0.55 (8 of 8)", "0.40 (8 of 8)"]
    assert found["none"][-1].startswith("no misfit seen")
    assert found["placebo"][1] == "— (0 of 8)" and found["placebo"][2] == "0.40 (8 of 8)"
    assert found["half"][-1] == "**misfits** (p = 0.0078)"  # of 128 signs, all plus alone: 1 / 128
    # Residuals ±.3 in common and .05 of one's own, on 16 − 4 degrees of freedom.
    assert float(found["half"][5]) == pytest.approx(0.3 * math.sqrt(16 / 12), abs=0.03)
    assert found["all"][1:] == ["— (0 of 8)", "— (0 of 8)", "—", "—", "—", "no law: loss: got 0.0"]


def test_few_worlds_tell_nothing_and_other_sweeps_have_no_such_figure(tmp_path, made, make_sweep, make_records):
    sweep, records = made
    few = report.write(sweep, [r for r in records if r.seed < 5], tmp_path / "few").read_text()
    assert rows(few)["half"][-1] == "too few worlds to tell (5 worlds)"
    plain = report.write(make_sweep(), make_records(make_sweep()), tmp_path / "plain").read_text()
    assert "by size and data" not in plain and not (tmp_path / "plain" / "figures" / "scaling.svg").exists()
    swept = make_sweep(axes={"strength": [1, 2]})
    assert scaling.of(swept, records) == {}


def test_the_sign_test_is_exact():
    assert scaling.sign_test([[1.0, 2.0]] * 6) == 1 / 32
    assert scaling.sign_test([[1.0, 0.0], [-1.0, 0.0]]) == 1
    # Three worlds at 1, 1, −1: sums 1, 3 (third flipped), and two of 1 as long as that seen.
    assert scaling.sign_test([[1.0], [1.0], [-1.0]]) == 1
    assert scaling.sign_test([[3.0], [1.0], [1.0]]) == 1 / 4
    g = np.random.default_rng(0)
    hang_together = g.standard_normal((400, 8, 1)) * np.ones(12) + 0.1 * g.standard_normal((400, 8, 12))
    refused = np.mean([scaling.sign_test(r) < 0.05 for r in hang_together])
    assert refused == pytest.approx(6 / 128, abs=4 * math.sqrt(0.05 * 0.95 / 400))


@pytest.mark.parametrize(
    ("ends", "levels"),
    [
        ((0.009, 0.3), [0.01, 0.02, 0.05, 0.1, 0.2]),
        ((1e-4, 1), [1e-4, 1e-3, 1e-2, 0.1, 1]),
        ((1.1, 1.9), [1.3, 1.4, 1.7]),
    ],
)
def test_levels_are_round(ends, levels):
    assert scaling.round_levels(*ends) == levels


def test_the_figure_shows_what_was_measured(made):
    arms = scaling.of(*made)
    axes = scaling.draw(arms).axes
    above, below = axes[:4], axes[5:9]
    assert [a.get_title(loc="left") for a in above] == list(arms)
    assert [t.get_text() for t in below[0].texts][:5] == ["0.80"] * 4 + ["0.70"]
    assert [t.get_text() for t in above[3].texts] == ["no law"]
    cells = np.array(above[0].collections[0].get_array())  # a row per D, a column per N
    measured = [np.log(w["loss"]) for w in arms["none"]]
    assert np.log(cells) == pytest.approx(np.mean(measured, axis=0).T)
    drawn = [next(c for c in a.collections if isinstance(c, ContourSet)) for a in above[:3]]
    for contour in drawn:  # the made-up law has the curve's level, but for straight pieces between points
        for level, path in zip(contour.levels, contour.get_paths(), strict=True):
            at = [math.log(0.02 + 30 / n + 5 / d) for n, d in path.vertices]
            assert at == pytest.approx([level] * len(at), abs=0.2)
    assert [c.get_linestyle()[0][1] is None for c in drawn] == [True, False, True]  # dashed where α_N is not known
    assert list(above[0].lines[0].get_ydata()) == pytest.approx([100, 400, 1600, 6400]) and not above[1].lines
