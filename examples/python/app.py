"""Replaces secrets in the data of events by `***`, before the service or the control plane gets them.

This file carries values between the contract and `redact.py`, which does the work. componentize-py looks for classes
named like the interfaces that the plugin exports.
"""

import json
from pathlib import Path

from componentize_py_types import Err
from redact import Redaction, pattern_problems
from wit_world import exports
from wit_world.exports import lifecycle
from wit_world.exports.lifecycle import ConfigProblem, Descriptor, EventParts
from wit_world.exports.transform import Emission_Forward, Outcome_Keep, Outcome_Replace
from wit_world.imports import metrics
from wit_world.imports.types import EventData_Json, Failure_Permanent

# Read while the component is made: it has no files later.
SCHEMA = Path(__file__).with_name("config-schema.json").read_text()

redaction = Redaction()


class Lifecycle(exports.Lifecycle):
    def describe(self) -> Descriptor:
        return Descriptor(
            name="redact",
            version="1.0.0",
            description="Replaces secrets in the data of events",
            config_schema=SCHEMA,
            event_types=[],
            # Attributes are not read: the host leaves them as they are.
            reads=EventParts.DATA,
        )

    def configure(self, config: str) -> None:
        settings = json.loads(config)
        problems = [ConfigProblem(pointer, message) for pointer, message in pattern_problems(settings)]
        if problems:
            raise Err(problems)
        global redaction
        redaction = Redaction(**settings)


class Transform(exports.Transform):
    def apply(self, event, context):
        if not isinstance(event.data, EventData_Json):
            return Outcome_Keep()
        try:
            made = redaction.redacted(event.data.value)
        except RecursionError:
            raise Err(Failure_Permanent("the data is nested too deeply")) from None
        if made is None:
            return Outcome_Keep()
        data, found = made
        metrics.add("secrets_redacted", found)
        event.data = EventData_Json(data)
        return Outcome_Replace([Emission_Forward(event)])
