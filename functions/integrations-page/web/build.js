// Builds the page into ../page, from where the function embeds it: each file as it is, and compressed beside it.
import { build } from "esbuild";
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

// How many bytes a page may have that somebody loads, and the picker, which pages of others load.
const limits = { page: 60 * 1024, picker: 8 * 1024 };
const out = new URL("../page/", import.meta.url).pathname;
const here = new URL(".", import.meta.url).pathname;

await build({
  absWorkingDir: here,
  entryPoints: { app: "src/main.tsx", style: "src/style.css", picker: "src/picker.ts" },
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

const sizes = { page: 0, picker: 0 };
for (const name of ["index.html", "icon.svg", "app.js", "style.css", "picker.js"]) {
  const gzipped = gzipSync(readFileSync(out + name), { level: 9 });
  writeFileSync(out + name + ".gz", gzipped);
  sizes[name === "picker.js" ? "picker" : "page"] += gzipped.length;
}
for (const [what, size] of Object.entries(sizes)) {
  console.log(`the ${what} is ${size} bytes, compressed`);
  if (size <= limits[what]) continue;
  console.error(`that is more than ${limits[what]}`);
  process.exitCode = 1;
}
