/**
 * What is added to events. Plain JavaScript, tested with Node.js and without a component.
 *
 * @typedef {{ extension: string, value: string }} Config
 */

/**
 * The extension, if it is not among these; nothing otherwise.
 *
 * @param {Config} config
 * @param {{ name: string }[]} extensions
 * @returns {import("keptn:distributor/types").Extension | undefined}
 */
export function missingAmong(config, extensions) {
  if (extensions.some(({ name }) => name === config.extension)) return undefined;
  return { name: config.extension, value: { tag: "text", val: config.value } };
}
