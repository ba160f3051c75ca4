/**
 * Which events pass. Plain JavaScript, tested with Node.js and without a component.
 *
 * @typedef {{ services: string[] }} Config
 */

/**
 * @param {Config} config
 * @param {string | null} service `null` where the data cannot be decoded
 */
export function isWanted(config, service) {
  return service !== null && config.services.includes(service);
}
