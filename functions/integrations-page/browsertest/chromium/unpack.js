// Unpacks the Chromium that comes inside the npm package beside this file, and last writes a
// script, start, that starts it with the libraries and fonts that come with it.
import { readFileSync, renameSync, writeFileSync } from "node:fs";

const folder = import.meta.dirname;
process.env.TMPDIR = folder; // where the package unpacks to
process.env.AWS_EXECUTION_ENV = "AWS_Lambda_nodejs22.x"; // has it unpack the libraries that a bare machine lacks
const { default: chromium } = await import("@sparticuz/chromium");
const program = await chromium.executablePath();
// Its list of fonts is for /tmp, and without a font Chromium ends itself.
const list = `${folder}/fonts/fonts.conf`;
writeFileSync(list, readFileSync(list, "utf8").replaceAll("/tmp/fonts", `${folder}/fonts`));
writeFileSync(`${folder}/start.new`, `#!/bin/sh
export LD_LIBRARY_PATH='${folder}/al2023/lib' FONTCONFIG_PATH='${folder}/fonts'
exec '${program}' "$@"
`, { mode: 0o755 });
renameSync(`${folder}/start.new`, `${folder}/start`);
