/**
 * A transform: changes events, splits or answers them.
 *
 * This file carries values between the contract and `rule.ts`, which decides. The host calls the objects that are
 * exported here by the names of the contract.
 */
import type { CloudEvent, EventContext, Lifecycle, Outcome, Transform } from "keptn:distributor/types";
import { DESCRIPTION, NAME, SCHEMA, VERSION } from "./generated.js";
import { type Config, missingAmong } from "./rule.js";

let settings: Config;

export const lifecycle: Lifecycle = {
  describe() {
    return {
      name: NAME,
      version: VERSION,
      description: DESCRIPTION,
      configSchema: SCHEMA,
      // Empty: events of all types.
      eventTypes: [],
      // Extensions are optional attributes. `data: true` asks for the data as well; what is not asked for is not there,
      // and stays with the event.
      reads: { optionalAttributes: true },
    };
  },

  configure(config: string) {
    // The host has checked it against the schema.
    settings = JSON.parse(config);
  },
};

export const transform: Transform = {
  apply(event: CloudEvent, _context: EventContext): Outcome {
    const extension = missingAmong(settings, event.extensions);
    if (extension === undefined) return { tag: "keep" };
    return { tag: "replace", val: [{ tag: "forward", val: { ...event, extensions: [...event.extensions, extension] } }] };
  },
};
