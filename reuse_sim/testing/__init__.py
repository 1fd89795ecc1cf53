"""Contract checks, one per protocol: run them on a plug-in of your own as the tests here run them on the built-ins.

    from reuse_sim.testing import check_world
    def test_my_world(): check_world(build(size=3))

Each raises AssertionError with a sentence naming what does not hold, and returns nothing.
"""

from __future__ import annotations

from reuse_sim.testing.estimators import check_estimator
from reuse_sim.testing.humans import check_human
from reuse_sim.testing.leaks import check_leak
from reuse_sim.testing.outers import check_outer
from reuse_sim.testing.worlds import check_world

__all__ = ["check_estimator", "check_human", "check_leak", "check_outer", "check_world"]
