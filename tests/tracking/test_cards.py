"""The picture on a card shows the answers it was given, outlined where they were learned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reuse_sim.record import Metric
from tracking import cards

SCENE = {
    "world": {"use": "radius", "sines": 4}, "human": {"use": "descent", "width": 6, "sees": "all"},
    "about": "A world.\n\nMore of it.", "shifts": {"shell": "Further out."}, "kind": "regression", "tolerance": 0.5,
    "inputs": 4, "teacher_parameters": 26, "human_parameters": 37, "human_layers": [4, 6, 1], "inactive": 3,
    "picture": {
        "across": "x₁", "down": "what is on", "columns": [-1.0, 0.0, 1.0], "rows": ["no", "yes"],
        "learned": [[False, True, True], [False, False, True]],
        "teacher": [[-2.0, 0.0, 1.0], [0.0, 0.5, 1.0]], "human": [[0.0, 0.0, 1.0], [0.0, 3.0, 1.0]],
    },
}  # fmt: skip


@pytest.fixture
def people(make_sweep, make_records):
    metrics = (Metric("human/on_fit", "R²", "Fit."), Metric("human/fails", "share", "Fails."))
    sweep = make_sweep(arms=("all",), seeds=4, metrics=metrics)
    made = make_records(sweep)
    return sweep, [
        replace(r, metrics={"human/on_fit": 0.9 + r.seed / 100, "human/fails": float(r.seed > 0)},
                diagnostics={"curve": {"strength": [0.0, 1.0], "human": [0.9, 0.1 * r.seed], "repaired": [0.9, 0.8]}})
        for r in made
    ]


def test_the_page_says_what_the_records_say(people, tmp_path):
    sweep, records = people
    (path,) = cards.write(sweep, records, {"all": SCENE}, tmp_path)
    text = path.read_text()
    assert text.startswith("# all\n\nA world.\n\nMore of it.\n\n![")
    assert "| human/on_fit (R²) | 0.92 [0.89, 0.94] | 0.01 | 0.90 to 0.93 | Fit. |" in text
    assert "In 1 of 4 the human does **not** fail" in text and "| 3 of 26: these earn no bits back |" in text
    assert "world: {use: radius, sines: 4}\nhuman: {use: descent, width: 6, sees: all}\n" in text
    assert "across, x₁; down, what is on. Inside the black line" in text
    assert "- [all](all.md): A world." in (tmp_path / "index.md").read_text()


def test_the_maps_are_the_answers_and_their_difference(people):
    _, records = people
    axes = cards.draw(SCENE, records).axes
    maps = [ax.images[0].get_array() for ax in axes if ax.images and ax.get_title(loc="left")]
    p = SCENE["picture"]
    np.testing.assert_array_equal(maps[0], p["teacher"])
    np.testing.assert_array_equal(maps[1], p["human"])
    np.testing.assert_array_equal(maps[2], np.array(p["human"]) - np.array(p["teacher"]))
    assert axes[0].images[0].get_clim() == (-2.0, 2.0)
    edges = {tuple(map(tuple, s)) for s in axes[0].collections[0].get_segments()}
    # Columns stand at −1, 0, 1, so that edges between them are at ∓1/2; rows have names and come one after another.
    assert edges == {((-0.5, -0.5), (-0.5, 0.5)), ((0.5, 0.5), (0.5, 1.5)), ((-0.5, 0.5), (0.5, 0.5))}
    assert axes[0].images[0].get_extent() == [-1.5, 1.5, 1.5, -0.5]
    (line, *_) = [ln for ax in axes for ln in ax.lines if ln.get_label() == "the human"]
    np.testing.assert_allclose(line.get_ydata(), [0.9, 0.15])


def test_planes_are_drawn_upwards_and_colours_end_at_three(people):
    _, records = people
    plane = {**SCENE["picture"], "rows": [0.0, 0.5], "teacher": [[-9.0, 0.0, 1.0], [0.0, 0.5, 1.0]]}
    image = cards.draw({**SCENE, "picture": plane}, records).axes[0].images[0]
    assert image.get_extent() == [-1.5, 1.5, -0.25, 0.75] and image.origin == "lower"
    assert image.get_clim() == (-3.0, 3.0)


def test_the_world_shown_is_the_first_whose_human_fails(people):
    _, records = people
    assert cards.world_to_show(records, "all") == 1
    well = [replace(r, metrics={"human/fails": 0.0}) for r in records]
    assert cards.world_to_show(well, "all") == 0


def test_without_a_picture_there_are_curves_and_a_word(people, tmp_path):
    sweep, records = people
    scene = {k: v for k, v in SCENE.items() if k != "picture"}
    (path,) = cards.write(sweep, records, {"all": scene}, tmp_path)
    assert cards.NO_PICTURE in path.read_text() and (tmp_path / "figures" / "all.png").exists()
