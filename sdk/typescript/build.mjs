// Makes a wasi:http component of one TypeScript or JavaScript module: esbuild puts the module, what
// it imports and the shim into one file, componentize-js puts that file into its engine.
// Started by the script `build` beside this file, which installs both.

import { mkdir, mkdtemp, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, extname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import * as esbuild from "esbuild";
import { LineTable } from "./lines.mjs";

const HERE = dirname(fileURLToPath(import.meta.url));
const SHIM = join(HERE, "shim.js");
const HANDLERS = ["default", "fetch", "handle"];
const EXTENSIONS = [".ts", ".tsx", ".mts", ".js", ".jsx", ".mjs"];

const USAGE = `Makes a wasi:http component of a TypeScript or JavaScript module.

usage: build <app.ts> [-o <app.wasm>] [--check]

  -o, --output <file>   where the component goes (default: the module's name, with .wasm)
      --check           check types with the application's own tsc first
  -h, --help            this text

The module exports its handler as one of
  export default function handle(request: Request): Response | Promise<Response>
  export default { fetch(request: Request): Response | Promise<Response> }
or as a function named fetch or handle. A Hono application is its own default export.`;

/** What the person who ran the command can act on: a cause, and the next step if there is one. */
class BuildError extends Error {
  constructor(message, hint) {
    super(message);
    this.hint = hint;
  }
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof BuildError)) throw error;
  console.error(`error: ${error.message}`);
  if (error.hint) console.error(`hint: ${error.hint}`);
  process.exitCode = 1;
}

async function main(args) {
  const { entry, output, check } = readArguments(args);
  await checkEntry(entry);
  if (check) checkTypes(entry);
  const started = Date.now();
  const work = await mkdtemp(join(tmpdir(), "rusmd-typescript-"));
  try {
    await checkExports(entry);
    const { source, lines } = await bundle(entry, work);
    const component = await componentOf(entry, source, lines);
    await writeWhole(output, component);
    const seconds = ((Date.now() - started) / 1000).toFixed(1);
    console.error(`${output}: ${(component.length / 1e6).toFixed(1)} MB in ${seconds} s`);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

function readArguments(args) {
  let parsed;
  try {
    parsed = parseArgs({
      args,
      allowPositionals: true,
      options: {
        output: { type: "string", short: "o" },
        check: { type: "boolean" },
        help: { type: "boolean", short: "h" },
      },
    });
  } catch (error) {
    throw new BuildError(error.message, "build --help shows the usage");
  }
  if (parsed.values.help) {
    console.log(USAGE);
    process.exit(0);
  }
  if (parsed.positionals.length !== 1) {
    throw new BuildError("one module is needed, as in build app.ts -o app.wasm");
  }
  const entry = resolve(parsed.positionals[0]);
  const stem = basename(entry, extname(entry));
  return { entry, output: resolve(parsed.values.output ?? `${stem}.wasm`), check: parsed.values.check };
}

async function checkEntry(entry) {
  const found = await stat(entry).catch(() => undefined);
  if (found === undefined) throw new BuildError(`${entry}: no such file`);
  if (!found.isFile()) throw new BuildError(`${entry}: not a file`);
  if (!EXTENSIONS.includes(extname(entry))) {
    throw new BuildError(`${entry}: not a module`, `a module ends in ${EXTENSIONS.join(", ")}`);
  }
}

/** Runs the tsc that the application has installed, if it has. */
function checkTypes(entry) {
  let at = dirname(entry);
  while (!existsSync(join(at, "node_modules/.bin/tsc"))) {
    if (at === dirname(at)) {
      throw new BuildError("--check found no tsc", "npm install --save-dev typescript, beside the module");
    }
    at = dirname(at);
  }
  const tsc = join(at, "node_modules/.bin/tsc");
  const project = join(at, "tsconfig.json");
  const options = existsSync(project)
    ? ["--project", project]
    : ["--strict", "--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler", entry];
  const { status } = spawnSync(tsc, ["--noEmit", ...options], { stdio: ["ignore", 2, 2] });
  if (status !== 0) throw new BuildError("type errors, as above");
}

/** Fails at once, with a better message than the engine's, where no handler can be there. */
async function checkExports(entry) {
  const { metafile } = await runEsbuild({ ...options(), entryPoints: [entry], write: false, metafile: true });
  const exported = Object.values(metafile.outputs).flatMap((output) => output.exports);
  if (exported.some((name) => HANDLERS.includes(name))) return;
  const instead = exported.length === 0 ? "exports nothing" : `exports only ${exported.join(", ")}`;
  throw new BuildError(
    `${entry}: ${instead}, and so has no handler`,
    "export default function handle(request: Request): Response { … }, or export default { fetch }",
  );
}

/** Writes the one source file that the engine reads. Gives its path, and where its lines come from. */
async function bundle(entry, work) {
  const source = join(work, "bundle.js");
  const { outputFiles } = await runEsbuild({
    ...options(),
    entryPoints: [SHIM],
    alias: { app: entry },
    sourcemap: "external",
    sourcesContent: false,
    outfile: source,
    write: false,
    logLevel: "silent",
  });
  const text = (suffix) => outputFiles.find((file) => file.path.endsWith(suffix)).text;
  const lines = new LineTable(text(".js.map"), source, dirname(entry), SHIM);
  await writeFile(source, text(".js") + lines.statement());
  return { source, lines };
}

function options() {
  return {
    bundle: true,
    format: "esm",
    target: "es2022",
    charset: "utf8",
    external: ["wasi:*"],
    define: { "process.env.NODE_ENV": '"production"' },
    logLevel: "warning",
  };
}

async function runEsbuild(options) {
  try {
    return await esbuild.build(options);
  } catch (error) {
    if (!Array.isArray(error.errors)) throw error;
    const first = error.errors[0]?.text ?? "";
    const builtin = /Could not resolve "(node:)?(fs|path|http|net|crypto|os|stream|buffer|process)\b/.test(first);
    throw new BuildError(
      `the module cannot be bundled: ${first}`,
      builtin ? "a component has the web's interfaces (fetch, URL, crypto, streams), not those of Node" : undefined,
    );
  }
}

/** Runs the module's outermost statements in the engine, and gives the component that results. */
async function componentOf(entry, sourcePath, lines) {
  const { componentize } = await import("@bytecodealliance/componentize-js");
  try {
    const { component } = await componentize({ sourcePath, witPath: join(HERE, "wit"), worldName: "app" });
    return component;
  } catch (error) {
    throw initialisationError(entry, String(error.message), lines);
  }
}

/** The engine's report names a line of the bundle and repeats itself; ours names the module's line. */
function initialisationError(entry, report, lines) {
  const thrown = /bundle\.js:(\d+):\d+ (.*)/.exec(report);
  if (thrown === null) return new BuildError(`${entry} cannot be initialised\n${report.trim()}`);
  const place = lines.place(Number(thrown[1]));
  // Only the shim's own refusal of the module comes from no line of the application.
  if (place === undefined) return new BuildError(`${entry}: ${thrown[2].replace(/^\w+: /, "")}`);
  return new BuildError(
    `the module threw while it was initialised, at ${place}: ${thrown[2]}`,
    "what stands outside of functions runs while the component is built, without network, files or environment",
  );
}

/** Never leaves half a component under the name that the server loads. */
async function writeWhole(output, bytes) {
  await mkdir(dirname(output), { recursive: true });
  const partial = `${output}.${process.pid}.partial`;
  await writeFile(partial, bytes);
  await rename(partial, output);
}
