/**
 * Makes one event for each item of a list: a task for several services becomes a task for each of them.
 *
 * This file carries values between the contract and `fan-out.ts`, which does the work. The host calls the objects that
 * are exported here by the names of the contract.
 */
import type { CloudEvent, EventContext, Failure, Lifecycle, Outcome, Transform } from "keptn:distributor/types";
import metrics from "keptn:distributor/metrics@1.0.0";
import { type Config, split } from "./fan-out.js";
import { DESCRIPTION, NAME, SCHEMA, VERSION } from "./generated.js";

/** The host takes 64 events of one call. */
const MAX_EVENTS = 64;

let settings: Config;

export const lifecycle: Lifecycle = {
  describe() {
    return {
      name: NAME,
      version: VERSION,
      description: DESCRIPTION,
      configSchema: SCHEMA,
      eventTypes: [],
      // Attributes are not read: each event that is made has those of the one that came.
      reads: { data: true },
    };
  },

  configure(config: string) {
    // The host has checked it against the schema.
    settings = JSON.parse(config);
  },
};

export const transform: Transform = {
  apply(event: CloudEvent, _context: EventContext): Outcome {
    if (event.data?.tag !== "json") return { tag: "keep" };
    const made = split(settings, event.data.val);
    if (made === undefined) return { tag: "keep" };
    if (made.length > MAX_EVENTS) {
      const failure: Failure = { tag: "permanent", val: `${settings.list} has ${made.length} items, ${MAX_EVENTS} are allowed` };
      throw failure;
    }
    metrics.add("events_made", made.length);
    // They keep the id, and the host appends -1, -2, … to tell them apart.
    return { tag: "replace", val: made.map((data) => ({ tag: "forward", val: { ...event, data: { tag: "json", val: data } } })) };
  },
};
