"""A transform: changes events, splits or answers them.

This file carries values between the contract and `rule.py`, which decides. componentize-py looks for classes named like
the interfaces that the plugin exports.
"""

import json
from pathlib import Path

from rule import Rule
from wit_world import exports
from wit_world.exports.lifecycle import Descriptor, EventParts
from wit_world.exports.transform import Emission_Forward, Outcome_Keep, Outcome_Replace
from wit_world.imports.types import AttributeValue_Text, Extension

# Read while the component is made: it has no files later.
SCHEMA = Path(__file__).with_name("config-schema.json").read_text()

rule = Rule()


class Lifecycle(exports.Lifecycle):
    def describe(self) -> Descriptor:
        return Descriptor(
            name="{{name}}",
            version="0.1.0",
            description="What {{name}} does",
            config_schema=SCHEMA,
            # Empty: events of all types.
            event_types=[],
            # Extensions are optional attributes. `EventParts.DATA` asks for the data as well; what is not asked for is
            # not there, and stays with the event.
            reads=EventParts.OPTIONAL_ATTRIBUTES,
        )

    def configure(self, config: str) -> None:
        # The host has checked it against the schema.
        global rule
        rule = Rule(**json.loads(config))


class Transform(exports.Transform):
    def apply(self, event, context):
        missing = rule.missing_among([extension.name for extension in event.extensions])
        if missing is None:
            return Outcome_Keep()
        name, value = missing
        event.extensions.append(Extension(name, AttributeValue_Text(value)))
        return Outcome_Replace([Emission_Forward(event)])
