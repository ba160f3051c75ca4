/**
 * A filter: decides which events go on.
 *
 * This file carries values between the contract and `rule.ts`, which decides. The host calls the objects that are
 * exported here by the names of the contract.
 */
import type { CloudEvent, EventContext, Filter, Lifecycle, Verdict } from "keptn:distributor/types";
import { DESCRIPTION, NAME, SCHEMA, VERSION } from "./generated.js";
import { type Config, isWanted } from "./rule.js";

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
      // The context is enough. `data: true` asks for the data as well, `optionalAttributes: true` for extensions and the
      // like; what is not asked for is not there.
      reads: {},
    };
  },

  configure(config: string) {
    // The host has checked it against the schema.
    settings = JSON.parse(config);
  },
};

export const filter: Filter = {
  evaluate(_event: CloudEvent, context: EventContext): Verdict {
    return isWanted(settings, context.service) ? { tag: "pass" } : { tag: "drop", val: "another service" };
  },
};
