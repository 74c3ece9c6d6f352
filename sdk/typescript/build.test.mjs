// What the command says about modules that cannot become components, and the table of lines.
// Run by `node --test build.test.mjs`; no test here gets as far as the engine, so all of them are quick.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { LineTable } from "./lines.mjs";

const BUILD = join(dirname(fileURLToPath(import.meta.url)), "build");
const work = mkdtempSync(join(tmpdir(), "rusmd typescript "));
after(() => rmSync(work, { recursive: true }));

function refusal(name, source) {
  const entry = join(work, name);
  if (source !== undefined) writeFileSync(entry, source);
  const { status, stderr } = spawnSync(BUILD, [entry, "-o", join(work, "out.wasm")], { encoding: "utf8" });
  assert.equal(status, 1, stderr);
  return stderr;
}

test("a missing module is named", () => {
  assert.match(refusal("missing.ts"), /error: .*missing\.ts: no such file/);
});

test("a file that is no module is refused", () => {
  assert.match(refusal("notes.txt", "x"), /notes\.txt: not a module\nhint: a module ends in \.ts/);
});

test("a module without a handler is refused with what it exports", () => {
  const said = refusal("none.ts", "export const routes = 1;");
  assert.match(said, /exports only routes, and so has no handler\nhint: export default/);
});

test("a module that exports nothing is refused", () => {
  assert.match(refusal("empty.ts", "const x = 1;"), /exports nothing, and so has no handler/);
});

test("a syntax error shows its line", () => {
  const said = refusal("syntax.ts", "export default () =>\n  new Response(;\n");
  assert.match(said, /syntax\.ts:2:15/);
  assert.match(said, /error: the module cannot be bundled: Unexpected ";"/);
});

test("a module of node is refused with what there is instead", () => {
  const said = refusal("node.ts", 'import fs from "node:fs"; export default () => fs;');
  assert.match(said, /Could not resolve "node:fs"\nhint: a component has the web's interfaces/);
});

test("an unknown option is refused", () => {
  const { status, stderr } = spawnSync(BUILD, ["--bogus"], { encoding: "utf8" });
  assert.equal(status, 1);
  assert.match(stderr, /error: Unknown option '--bogus'/);
});

test("a line of the bundle is traced to the module, and the shim's lines are not shown", () => {
  // Line 1 from a.ts:1, line 2 has no mapping, line 3 from the shim's first, line 4 from a.ts:18.
  const map = JSON.stringify({ sources: ["src/a.ts", "shim.js"], mappings: "AAAA;;ACAA;ADiBA" });
  const lines = new LineTable(map, "/app/bundle.js", "/app", "/app/shim.js");
  assert.deepEqual(
    [1, 2, 3, 4, 5].map((line) => lines.place(line)),
    ["src/a.ts:1", "src/a.ts:1", undefined, "src/a.ts:18", undefined],
  );
  assert.match(lines.statement(), /"lines":"\[0,1,0,1,-1,0,0,18\]"/);
});
