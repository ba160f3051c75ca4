// Makes the component of what tsc has written to dist/. What package.json and config-schema.json say goes into a module
// of its own first (`node build.mjs constants`), so that it is written down once.
import { readFileSync, writeFileSync } from "node:fs";
import { componentize } from "componentize-qjs";

const manifest = JSON.parse(readFileSync("package.json", "utf8"));

if (process.argv[2] === "constants") {
  const schema = JSON.stringify(JSON.parse(readFileSync("config-schema.json", "utf8")));
  const constants = { NAME: manifest.name, VERSION: manifest.version, DESCRIPTION: manifest.description, SCHEMA: schema };
  const lines = Object.entries(constants).map(([name, value]) => `export const ${name} = ${JSON.stringify(value)};\n`);
  writeFileSync("src/generated.ts", `// Made by build.mjs.\n${lines.join("")}`);
  process.exit();
}

const { component } = await componentize({
  witPath: process.env.WIT ?? "wit/world.wit",
  world: "{{hook}}-plugin",
  jsSource: readFileSync("dist/plugin.js", "utf8"),
  jsPath: "dist/plugin.js",
  // The small interpreter without asynchronous functions: a megabyte, which fits into a ConfigMap when it is compressed.
  optSize: true,
  sync: true,
});
writeFileSync(`${manifest.name}.wasm`, component);
console.log(`${manifest.name}.wasm: ${component.length} bytes`);
