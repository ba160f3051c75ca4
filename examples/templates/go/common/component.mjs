// Makes a component of a module: node component.mjs WORLD MODULE COMPONENT
import { readFileSync, writeFileSync } from "node:fs";
import { componentEmbed, componentNew, parse } from "@bytecodealliance/jco-transpile/wasm-tools";

const [world, module, component] = process.argv.slice(2);
const witSource = readFileSync(process.env.WIT ?? "wit/world.wit", "utf8");
const described = await componentEmbed({ binary: readFileSync(module), world, witSource });
const wasi = await parse(readFileSync("wasi.wat", "utf8"));
const bytes = await componentNew(described, [["wasi_snapshot_preview1", wasi]]);
writeFileSync(component, bytes);
console.log(`${component}: ${bytes.length} bytes`);
