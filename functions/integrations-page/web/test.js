// Runs the tests of what needs no browser, each bundled with what it tests.
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { build } from "esbuild";

const here = new URL(".", import.meta.url).pathname;
const outdir = `${here}node_modules/.test`;
const tests = readdirSync(`${here}test`).filter((name) => name.endsWith(".test.js"));
await build({
  absWorkingDir: here,
  entryPoints: tests.map((name) => `test/${name}`),
  outdir,
  bundle: true,
  format: "esm",
  platform: "node",
  jsx: "automatic",
  jsxImportSource: "preact",
});
process.exitCode = spawnSync(process.execPath, ["--test", ...tests.map((name) => `${outdir}/${name}`)], { stdio: "inherit" }).status ?? 1;
