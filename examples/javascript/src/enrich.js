/**
 * What is added to an event. Plain JavaScript, tested with Node.js and without a component.
 *
 * @typedef {{ by?: "project" | "stage" | "service", table: Record<string, Record<string, string>> }} Config
 */

/**
 * The data with the labels of its row; nothing where there is nothing to add.
 *
 * @param {Config} config
 * @param {Pick<import("keptn:distributor/types").EventContext, "project" | "stage" | "service">} context
 * @param {string} data JSON
 * @returns {string | undefined}
 */
export function enriched(config, context, data) {
  const key = context[config.by ?? "service"];
  // `Object.hasOwn`: a service may be called `constructor`.
  if (!key || !Object.hasOwn(config.table, key)) return undefined;
  const value = JSON.parse(data);
  const before = value.labels ?? {};
  // What the sender said counts more than the table.
  const labels = { ...config.table[key], ...before };
  if (Object.keys(labels).length === Object.keys(before).length) return undefined;
  return JSON.stringify({ ...value, labels });
}
