// Turns a source map into the small table with which a component names lines of the application's
// own files in a stack: for each line of the bundle, the file and the line that it begins with.

import { relative, resolve, dirname } from "node:path";

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/**
 * The statement that, put behind the bundle, gives its table to the shim.
 * @param {string} mapText the source map, as JSON
 * @param {string} bundle the file that the map's paths are relative to
 * @param {string} root the directory that the names in a stack are relative to
 * @param {string} hidden the file whose frames are not shown
 */
export function lineTable(mapText, bundle, root, hidden) {
  const map = JSON.parse(mapText);
  const files = map.sources.map((source) => resolve(dirname(bundle), source));
  const sources = files.map((file) => relative(root, file));
  const shim = files.indexOf(resolve(hidden));
  const lines = firstPositions(map.mappings).flatMap(([source, line]) =>
    source === shim ? [-1, 0] : [source, line + 1],
  );
  const table = { sources, lines: JSON.stringify(lines) };
  return `globalThis.__rusmd_lines = ${JSON.stringify(table)};\n`;
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
