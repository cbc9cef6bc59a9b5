// Builds the page into ../page, from where the function embeds it: each file as it is, and
// compressed beside it. What the page names is named by its content, so that browsers may keep it
// for ever. The page itself and the picker, whose address others know, are not.
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

// How many bytes a page may have that somebody loads, and the picker, which pages of others load.
const limits = { page: 60 * 1024, picker: 8 * 1024 };
const out = new URL("../page/", import.meta.url).pathname;
const here = new URL(".", import.meta.url).pathname;

const options = {
  absWorkingDir: here,
  outdir: out,
  bundle: true,
  minify: true,
  format: "esm",
  target: ["es2022", "chrome111", "firefox114", "safari16.4"],
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "eof",
  loader: { ".svg": "copy" },
  metafile: true,
};

for (const name of readdirSync(out)) if (name !== ".gitignore") rmSync(out + name);
await build({ ...options, entryPoints: ["src/picker.ts"] });
const { metafile } = await build({
  ...options,
  entryPoints: ["src/main.tsx", "src/style.css", "src/icon.svg"],
  entryNames: "[name]-[hash]",
});

let index = readFileSync(`${here}src/index.html`, "utf8");
for (const [file, { inputs }] of Object.entries(metafile.outputs)) {
  for (const input of Object.keys(inputs)) index = index.replace(`"page-files/${basename(input)}"`, `"page-files/${basename(file)}"`);
}
writeFileSync(`${out}index.html`, index);

const sizes = { page: 0, picker: 0 };
for (const name of readdirSync(out).filter((name) => name !== ".gitignore")) {
  const gzipped = gzipSync(readFileSync(out + name), { level: 9 });
  writeFileSync(`${out + name}.gz`, gzipped);
  sizes[name === "picker.js" ? "picker" : "page"] += gzipped.length;
}
for (const [what, size] of Object.entries(sizes)) {
  console.log(`the ${what} is ${size} bytes, compressed`);
  if (size <= limits[what]) continue;
  console.error(`that is more than ${limits[what]}`);
  process.exitCode = 1;
}
