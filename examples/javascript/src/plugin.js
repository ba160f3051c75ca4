/**
 * Adds what a table says about the service of an event, as labels: the team that owns it, who is called at night.
 *
 * This file carries values between the contract and `enrich.js`, which does the work. The host calls the objects that
 * are exported here by the names of the contract.
 */
import logging from "keptn:distributor/logging@1.0.0";
import { enriched } from "./enrich.js";
import { DESCRIPTION, NAME, SCHEMA, VERSION } from "./generated.js";

/** @type {import("./enrich.js").Config} */
let settings;

/** @type {import("keptn:distributor/types").Lifecycle} */
export const lifecycle = {
  describe() {
    return {
      name: NAME,
      version: VERSION,
      description: DESCRIPTION,
      configSchema: SCHEMA,
      eventTypes: [],
      // Attributes are not read: the host leaves them as they are.
      reads: { data: true },
    };
  },

  configure(config) {
    // The host has checked it against the schema.
    settings = JSON.parse(config);
  },
};

/** @type {import("keptn:distributor/types").Transform} */
export const transform = {
  apply(event, context) {
    if (event.data?.tag !== "json") return { tag: "keep" };
    const data = enriched(settings, context, event.data.val);
    if (data === undefined) return { tag: "keep" };
    if (logging.enabled("debug")) logging.log("debug", "labels added", [["service", context.service ?? ""]]);
    return { tag: "replace", val: [{ tag: "forward", val: { ...event, data: { tag: "json", val: data } } }] };
  },
};
