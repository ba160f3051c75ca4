"""A filter: decides which events go on.

This file carries values between the contract and `rule.py`, which decides. componentize-py looks for classes named like
the interfaces that the plugin exports.
"""

import json
from pathlib import Path

from rule import Rule
from wit_world import exports
from wit_world.exports.filter import Verdict_Drop, Verdict_Pass
from wit_world.exports.lifecycle import Descriptor, EventParts

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
            # The context is enough. `EventParts.DATA` asks for the data as well, `OPTIONAL_ATTRIBUTES` for extensions and
            # the like; what is not asked for is not there.
            reads=EventParts(0),
        )

    def configure(self, config: str) -> None:
        # The host has checked it against the schema.
        global rule
        rule = Rule(**json.loads(config))


class Filter(exports.Filter):
    def evaluate(self, event, context):
        return Verdict_Pass() if rule.is_wanted(context.service) else Verdict_Drop("another service")
