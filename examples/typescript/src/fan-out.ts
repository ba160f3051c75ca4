/** What becomes of the data. Plain TypeScript, tested with Node.js and without a component. */

export interface Config {
  list: string;
  field: string;
}

/** The data of each event that is made; nothing where there is no list. */
export function split(config: Config, data: string): string[] | undefined {
  const value: unknown = JSON.parse(data);
  if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
  const { [config.list]: items, ...rest } = value as Record<string, unknown>;
  if (!Array.isArray(items)) return undefined;
  return items.map((item) => JSON.stringify({ ...rest, [config.field]: item }));
}
