"""JSON Schema of scenario files, for editors that complete and check YAML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def build(common: type[BaseModel], configs: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    """One alternative per experiment (its fields beside the common keys), and one for a user's own experiment.

    Fields are not required: a sweep or the arms may give them.
    """
    models = [common, *configs.values()]
    places, shared = models_json_schema([(m, "validation") for m in models])
    definitions = shared.get("$defs", {})

    def fields(model: type[BaseModel]) -> dict[str, Any]:
        return definitions.pop(places[model, "validation"]["$ref"].rsplit("/", 1)[1])

    keys = fields(common)
    alternatives = []
    for name, config in configs.items():
        properties = {**keys["properties"], "experiment": {"const": name}, **fields(config).get("properties", {})}
        alternatives.append({"title": name, "type": "object", "properties": properties,
                             "required": keys["required"], "additionalProperties": False})
    mine = {**keys["properties"], "experiment": {"type": "string", "not": {"enum": list(configs)}}}
    alternatives.append({"title": "your own experiment", "type": "object", "properties": mine,
                         "required": keys["required"]})
    return {"$schema": DRAFT, "title": "Scenario", "oneOf": alternatives, "$defs": definitions}
