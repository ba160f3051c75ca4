/**
 * The contract of `wit/world.wit` as componentize-qjs shows it to JavaScript: an `option` is the value or `null`, a
 * `variant` an object with `tag` and `val`, `flags` an object of truth values; an `err` result is thrown.
 */

declare module "keptn:distributor/types" {
  export type AttributeValue =
    | { tag: "boolean"; val: boolean }
    | { tag: "integer"; val: number }
    | { tag: "text"; val: string };

  export interface Extension {
    name: string;
    value: AttributeValue;
  }

  export type EventData =
    | { tag: "json"; val: string }
    | { tag: "text"; val: string }
    | { tag: "binary"; val: Uint8Array };

  export interface CloudEvent {
    id: string;
    source: string;
    type: string;
    specversion: string;
    subject: string | null;
    /** RFC 3339, exactly as received. */
    time: string | null;
    datacontenttype: string | null;
    dataschema: string | null;
    extensions: Extension[];
    data: EventData | null;
  }

  export interface Subscription {
    id: string;
    event: string;
    projects: string[];
    stages: string[];
    services: string[];
  }

  export interface EventContext {
    direction: "incoming" | "outgoing";
    /** `null`: the data cannot be decoded; empty: it has no such field. */
    project: string | null;
    stage: string | null;
    service: string | null;
    labels: [name: string, value: string][];
    keptnContext: string | null;
    triggeredId: string | null;
    subscription: Subscription | null;
    receivedOn: string;
    receipt: number;
  }

  /** Throw it: `transient` for what may work another time, `permanent` for what never will. */
  export type Failure = { tag: "transient"; val: string } | { tag: "permanent"; val: string };

  export type Verdict = { tag: "pass" } | { tag: "drop"; val: string };

  export type Emission = { tag: "forward"; val: CloudEvent } | { tag: "publish"; val: CloudEvent };

  export type Outcome = { tag: "keep" } | { tag: "replace"; val: Emission[] };

  export interface Descriptor {
    name: string;
    version: string;
    description: string;
    configSchema: string;
    eventTypes: string[];
    /** What is not named here is not given to the hooks. */
    reads: { optionalAttributes?: boolean; data?: boolean };
  }

  export interface ConfigProblem {
    /** JSON Pointer into the configuration. */
    pointer: string;
    message: string;
  }

  /** What a plugin exports as `lifecycle`. */
  export interface Lifecycle {
    describe(): Descriptor;
    /** Throws a list of {@link ConfigProblem}. */
    configure(config: string): void;
  }

  /** What a filter exports as `filter`. */
  export interface Filter {
    /** Throws a {@link Failure}. */
    evaluate(event: CloudEvent, context: EventContext): Verdict;
  }

  /** What a transform exports as `transform`. */
  export interface Transform {
    /** Throws a {@link Failure}. */
    apply(event: CloudEvent, context: EventContext): Outcome;
  }
}

declare module "keptn:distributor/logging@1.0.0" {
  export type Level = "trace" | "debug" | "info" | "warn" | "error";
  const logging: {
    enabled(level: Level): boolean;
    log(level: Level, message: string, fields: [name: string, value: string][]): void;
  };
  export default logging;
}

declare module "keptn:distributor/config@1.0.0" {
  const config: {
    get(key: string): string | null;
    getList(key: string): string[];
  };
  export default config;
}

declare module "keptn:distributor/metrics@1.0.0" {
  const metrics: {
    add(name: string, delta: number): void;
    set(name: string, value: number): void;
  };
  export default metrics;
}

/** Needs the grant `state`; without it every function throws `{ tag: "denied" }`. */
declare module "keptn:distributor/state@1.0.0" {
  export type StateError = { tag: "denied" } | { tag: "quota-exceeded" };
  const state: {
    get(key: string): Uint8Array | null;
    set(key: string, value: Uint8Array, ttlMs: number | null): void;
    delete(key: string): void;
    increment(key: string, delta: number, ttlMs: number | null): number;
    setIfAbsent(key: string, value: Uint8Array, ttlMs: number | null): boolean;
  };
  export default state;
}
