/**
 * A filter: decides which events go on.
 *
 * This file carries values between the contract and `rule.js`, which decides. The host calls the objects that are
 * exported here by the names of the contract.
 */
import { DESCRIPTION, NAME, SCHEMA, VERSION } from "./generated.js";
import { isWanted } from "./rule.js";

/** @type {import("./rule.js").Config} */
let settings;

/** @type {import("keptn:distributor/types").Lifecycle} */
export const lifecycle = {
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

  configure(config) {
    // The host has checked it against the schema.
    settings = JSON.parse(config);
  },
};

/** @type {import("keptn:distributor/types").Filter} */
export const filter = {
  evaluate(_event, context) {
    return isWanted(settings, context.service) ? { tag: "pass" } : { tag: "drop", val: "another service" };
  },
};
