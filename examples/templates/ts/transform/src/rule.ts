/** What is added to events. Plain TypeScript, tested with Node.js and without a component. */

import type { Extension } from "keptn:distributor/types";

export interface Config {
  extension: string;
  value: string;
}

/** The extension, if it is not among these; nothing otherwise. */
export function missingAmong(config: Config, extensions: Pick<Extension, "name">[]): Extension | undefined {
  if (extensions.some(({ name }) => name === config.extension)) return undefined;
  return { name: config.extension, value: { tag: "text", val: config.value } };
}
