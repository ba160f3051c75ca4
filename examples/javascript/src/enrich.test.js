import assert from "node:assert/strict";
import { test } from "node:test";
import { enriched } from "./enrich.js";

/** @type {import("./enrich.js").Config} */
const config = { table: { carts: { team: "a", oncall: "b" } } };
const context = { project: "shop", stage: "dev", service: "carts" };

/** @param {string | undefined} data */
const labels = (data) => data && JSON.parse(data).labels;

test("labels of the row are added, and what is there stays", () => {
  const data = enriched(config, context, '{"n":1,"labels":{"team":"c"}}');
  assert.deepEqual(JSON.parse(data ?? ""), { n: 1, labels: { team: "c", oncall: "b" } });
});

test("an event without labels gets them", () => {
  assert.deepEqual(labels(enriched(config, context, "{}")), { team: "a", oncall: "b" });
});

test("an event that is not in the table, or has all its labels, is left alone", () => {
  for (const service of ["orders", "constructor", "", null]) {
    assert.equal(enriched(config, { ...context, service }, "{}"), undefined);
  }
  assert.equal(enriched(config, context, '{"labels":{"team":"x","oncall":"y"}}'), undefined);
});

test("rows may be about stages or projects", () => {
  const table = { dev: { cluster: "west" } };
  assert.deepEqual(labels(enriched({ by: "stage", table }, context, "{}")), { cluster: "west" });
  assert.equal(enriched({ by: "project", table }, context, "{}"), undefined);
});
