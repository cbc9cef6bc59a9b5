// Unpacks the Chromium that comes inside the npm package beside this file, and last writes a
// script, start, that starts it with the libraries and fonts that come with it.
import { renameSync, writeFileSync } from "node:fs";

const folder = import.meta.dirname;
process.env.TMPDIR = folder; // where the package unpacks to
process.env.AWS_EXECUTION_ENV = "AWS_Lambda_nodejs22.x"; // has it unpack the libraries that a bare machine lacks
const { default: chromium } = await import("@sparticuz/chromium");
const program = await chromium.executablePath();
writeFileSync(`${folder}/start.new`, `#!/bin/sh
export LD_LIBRARY_PATH='${folder}/al2023/lib' FONTCONFIG_PATH='${folder}/fonts'
exec '${program}' "$@"
`, { mode: 0o755 });
renameSync(`${folder}/start.new`, `${folder}/start`);
