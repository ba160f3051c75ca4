// Makes a component of a module: node component.mjs MODULE COMPONENT
import { readFileSync, writeFileSync } from "node:fs";
import { componentNew } from "@bytecodealliance/jco-transpile/wasm-tools";

const [module, component] = process.argv.slice(2);
const bytes = await componentNew(readFileSync(module));
writeFileSync(component, bytes);
console.log(`${component}: ${bytes.length} bytes`);
