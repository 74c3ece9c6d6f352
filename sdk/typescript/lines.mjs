// Turns a source map into a small table that names lines of the application's own files: for each
// line of the bundle, the file and the line that it begins with. The build uses it for errors, and a
// component carries it for its stacks.

import { relative, resolve, dirname } from "node:path";

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/** The index of a line that belongs to no file of the application. */
const HIDDEN = -1;

export class LineTable {
  /**
   * @param {string} mapText the source map, as JSON
   * @param {string} bundle the file that the map's paths are relative to
   * @param {string} root the directory that the names of files are to be relative to
   * @param {string} shim the file whose lines are not shown
   */
  constructor(mapText, bundle, root, shim) {
    const map = JSON.parse(mapText);
    const files = map.sources.map((source) => resolve(dirname(bundle), source));
    const hidden = files.indexOf(resolve(shim));
    this.sources = files.map((file) => relative(root, file));
    this.positions = firstPositions(map.mappings).map(([source, line]) =>
      source === hidden ? [HIDDEN, 0] : [source, line + 1],
    );
  }

  /** Where a line of the bundle (from 1) comes from, as `app.ts:3`; undefined if from the shim. */
  place(line) {
    const [source, original] = this.positions[line - 1] ?? [HIDDEN, 0];
    return source === HIDDEN ? undefined : `${this.sources[source]}:${original}`;
  }

  /** The statement that, put behind the bundle, gives this table to the shim. */
  statement() {
    const table = { sources: this.sources, lines: JSON.stringify(this.positions.flat()) };
    return `globalThis.__rusmd_lines = ${JSON.stringify(table)};\n`;
  }
}

/** For each line of the bundle, the [source, line] of its first mapping; the line before's if none. */
function firstPositions(mappings) {
  let source = 0;
  let line = 0;
  let last = [0, 0];
  return mappings.split(";").map((group) => {
    let first;
    for (const segment of group.split(",")) {
      const fields = decode(segment);
      if (fields.length < 4) continue;
      source += fields[1];
      line += fields[2];
      first ??= [source, line];
    }
    last = first ?? last;
    return last;
  });
}

/** One segment of base-64 variable-length quantities (ECMA-426, section 6). */
function decode(segment) {
  const fields = [];
  let value = 0;
  let shift = 0;
  for (const character of segment) {
    const digit = DIGITS.indexOf(character);
    value += (digit & 31) << shift;
    shift += 5;
    if (digit & 32) continue;
    fields.push(value & 1 ? -(value >> 1) : value >> 1);
    value = 0;
    shift = 0;
  }
  return fields;
}
