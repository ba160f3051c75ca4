import assert from "node:assert/strict";
import { test } from "node:test";
import { missingAmong } from "./rule.js";

test("only what is missing is added", () => {
  const config = { extension: "team", value: "checkout" };
  const added = { name: "team", value: { tag: "text", val: "checkout" } };
  assert.deepEqual(missingAmong(config, [{ name: "teams" }]), added);
  assert.equal(missingAmong(config, [{ name: "tier" }, { name: "team" }]), undefined);
});
