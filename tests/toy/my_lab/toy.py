"""An experiment of a user's own."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from reuse_sim.plugins import STRICT, Plugin, plugin
from reuse_sim.record import Metric

METHOD = "Nothing is done. Nothing is measured. Nothing follows."
SHARED = ("teachers",)
METRICS = (Metric("toy/size", "1", "how large"), Metric("toy/share", "1", "which share", pooled=True))


class Size(BaseModel):  # neither strict nor closed by itself
    width: int = 3
    depth: float = 1.0


class Config(BaseModel):
    model_config = STRICT
    world: Annotated[Plugin, plugin("worlds")]
    human: Annotated[Plugin, plugin("humans")]
    size: Size = Size()
    rate: Annotated[float, Field(gt=0, lt=100)] = 0.1
    teachers: Annotated[int, Field(ge=1)] | Literal["each"] = 1
    names: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _rate_below_depth(self):
        if self.rate > self.size.depth:
            raise ValueError("rate at most size.depth")
        return self


def cell(arms, seed, store):
    return {}


def memory_bytes(arms):
    return 0
