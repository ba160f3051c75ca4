/**
 * A transform: changes events, splits or answers them.
 *
 * This file carries values between the contract and `rule.js`, which decides. The host calls the objects that are
 * exported here by the names of the contract.
 */
import { DESCRIPTION, NAME, SCHEMA, VERSION } from "./generated.js";
import { missingAmong } from "./rule.js";

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
      // Extensions are optional attributes. `data: true` asks for the data as well; what is not asked for is not there,
      // and stays with the event.
      reads: { optionalAttributes: true },
    };
  },

  configure(config) {
    // The host has checked it against the schema.
    settings = JSON.parse(config);
  },
};

/** @type {import("keptn:distributor/types").Transform} */
export const transform = {
  apply(event, _context) {
    const extension = missingAmong(settings, event.extensions);
    if (extension === undefined) return { tag: "keep" };
    return { tag: "replace", val: [{ tag: "forward", val: { ...event, extensions: [...event.extensions, extension] } }] };
  },
};
