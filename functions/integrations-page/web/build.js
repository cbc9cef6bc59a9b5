// Builds the page into ../page, from where the function embeds it: each file as it is, and compressed beside it.
import { build } from "esbuild";
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const limit = 60 * 1024;
const out = new URL("../page/", import.meta.url).pathname;
const here = new URL(".", import.meta.url).pathname;

await build({
  absWorkingDir: here,
  entryPoints: { app: "src/main.tsx", style: "src/style.css" },
  outdir: out,
  bundle: true,
  minify: true,
  format: "esm",
  target: ["es2022", "chrome111", "firefox114", "safari16.4"],
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "eof",
});
for (const name of ["index.html", "icon.svg"]) copyFileSync(here + "src/" + name, out + name);

let total = 0;
for (const name of ["index.html", "icon.svg", "app.js", "style.css"]) {
  const gzipped = gzipSync(readFileSync(out + name), { level: 9 });
  writeFileSync(out + name + ".gz", gzipped);
  total += gzipped.length;
}
console.log(`the page is ${total} bytes, compressed`);
if (total > limit) {
  console.error(`that is more than ${limit}`);
  process.exit(1);
}
