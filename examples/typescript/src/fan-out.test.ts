import assert from "node:assert/strict";
import { test } from "node:test";
import { split } from "./fan-out.js";

const config = { list: "services", field: "service" };

test("each item makes an event that has everything else as well", () => {
  const made = split(config, '{"project":"shop","services":["carts","orders"]}');
  assert.deepEqual(made?.map((data) => JSON.parse(data)), [
    { project: "shop", service: "carts" },
    { project: "shop", service: "orders" },
  ]);
});

test("an empty list makes no event", () => {
  assert.deepEqual(split(config, '{"services":[]}'), []);
});

test("data without the list is left alone", () => {
  for (const data of ["{}", '{"services":"carts"}', "[1]", "null", '"services"']) {
    assert.equal(split(config, data), undefined);
  }
});
