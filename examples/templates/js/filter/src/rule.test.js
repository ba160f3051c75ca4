import assert from "node:assert/strict";
import { test } from "node:test";
import { isWanted } from "./rule.js";

test("only events of wanted services pass", () => {
  const config = { services: ["carts", "orders"] };
  assert.equal(isWanted(config, "orders"), true);
  for (const service of ["Orders", "", null]) assert.equal(isWanted(config, service), false);
});
