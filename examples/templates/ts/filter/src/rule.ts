/** Which events pass. Plain TypeScript, tested with Node.js and without a component. */

export interface Config {
  services: string[];
}

/** `null`: the data cannot be decoded. */
export function isWanted(config: Config, service: string | null): boolean {
  return service !== null && config.services.includes(service);
}
