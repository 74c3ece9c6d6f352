// The part of every component that this project writes: it hands the engine's fetch event to the
// handler that the application exports, and makes the failures of that handler crashes.
//
// The engine itself would answer 500 in the application's name, with a text of its own, whenever a
// handler fails. The server must see instead that no response was set, and answer 502. So a failure
// is written to standard error, which is the server's log, and then the instance ends through
// wasi:cli/exit. After the response head is out the same exit is what cuts the connection: the
// engine would end the body as though it were complete.
//
// Everything outside of functions runs once, while the component is built.

import * as app from "app";
import { getEnvironment } from "wasi:cli/environment@0.2.3";
import { exit } from "wasi:cli/exit@0.2.3";

const FAILED = { tag: "err" };
/** Longer than any deadline, and the longest that a timer takes (milliseconds). */
const FOREVER_MS = 0x7fffffff;
/** How many errors of a chain of causes are written. */
const CAUSES_MAX = 5;
/** How many frames of one stack are written: endless recursion has enough of them to fill a log. */
const FRAMES_MAX = 16;

const NativeResponse = Response;
const nativeSetTimeout = setTimeout;
const nativeClearTimeout = clearTimeout;

/** Guards by the response that they stand in. */
const guards = new WeakMap();
/** The request of this instance, once there is one. */
let request;

let handler = findHandler(app);
if (handler === undefined) {
  throw new TypeError(
    "the module's default export is neither a function nor an object with a fetch function",
  );
}
installGlobals();
addEventListener("fetch", serve);
warmUp();

function findHandler(module) {
  const main = module.default;
  if (typeof main === "function") return main;
  for (const name of ["fetch", "handle"]) {
    if (main && typeof main[name] === "function") return main[name].bind(main);
    if (typeof module[name] === "function") return module[name];
  }
  return undefined;
}

function serve(event) {
  request = event.request;
  let result;
  try {
    result = handler(request);
  } catch (error) {
    crash(error);
  }
  if (result === null || typeof result !== "object" || typeof result.then !== "function") {
    event.respondWith(checked(result));
    return;
  }
  // With nothing left to wait for the engine gives up and answers 500. A timer keeps it waiting, so
  // that a promise which never settles meets the server's deadline as any other slow handler does.
  const alive = nativeSetTimeout(() => {}, FOREVER_MS);
  event.respondWith(
    result.then((response) => {
      nativeClearTimeout(alive);
      return checked(response);
    }, crash),
  );
}

/** The response, if the engine will be able to send it. Otherwise that is a crash as well. */
function checked(response) {
  if (!(response instanceof NativeResponse)) {
    crash(new TypeError(`the handler returned ${describe(response)}, not a Response`));
  }
  if (response.bodyUsed) {
    crash(new TypeError("the handler returned a Response whose body has been read already"));
  }
  if (response.status < 200 || response.status > 599) {
    crash(new TypeError(`the handler returned a Response with status ${response.status}`));
  }
  const guard = guards.get(response);
  if (guard !== undefined) guard.sent = true;
  return response;
}

function describe(value) {
  if (value === undefined || value === null) return `${value}`;
  if (typeof value === "object") return `an object (${value.constructor?.name ?? "no class"})`;
  return `a ${typeof value}`;
}

// ---- crashes --------------------------------------------------------------------------------

function crash(error) {
  for (const text of [() => report(error), () => "uncaught exception, and no memory to report it"]) {
    try {
      console.error(text());
      break;
    } catch {
      // What counts is that nothing is answered.
    }
  }
  exit(FAILED);
}

function report(error) {
  const parts = [];
  for (let n = 0; n < CAUSES_MAX; n++) {
    parts.push((n === 0 ? "uncaught " : "caused by ") + summary(error));
    if (!(error instanceof Error)) break;
    parts.push(...frames(error));
    if (error.cause === undefined || error.cause === null) break;
    error = error.cause;
  }
  return parts.join("\n");
}

function summary(error) {
  if (error instanceof Error) return `${error.name}: ${error.message}`;
  if (typeof error === "string") return error;
  try {
    return JSON.stringify(error) ?? String(error);
  } catch {
    return String(error);
  }
}

/** The stack with positions in the application's own files, without the frames of this file. */
function frames(error) {
  const table = globalThis.__rusmd_lines;
  const lines = table === undefined ? [] : JSON.parse(table.lines);
  const found = [];
  for (const frame of String(error.stack ?? "").split("\n")) {
    if (found.length === FRAMES_MAX) {
      found.push("    …");
      break;
    }
    const match = /^(.*)@(.*):(\d+):(\d+)$/.exec(frame.trim());
    if (match === null) continue;
    const source = lines[2 * match[3] - 2];
    if (source === -1) continue;
    const place =
      source === undefined ? `line ${match[3]}` : `${table.sources[source]}:${lines[2 * match[3] - 1]}`;
    found.push(match[1] === "" ? `    at ${place}` : `    at ${match[1]} (${place})`);
  }
  return found;
}

// ---- globals --------------------------------------------------------------------------------

function installGlobals() {
  globalThis.setTimeout = (callback, delay, ...rest) =>
    nativeSetTimeout(crashing(callback), delay, ...rest);
  const nativeSetInterval = setInterval;
  globalThis.setInterval = (callback, delay, ...rest) =>
    nativeSetInterval(crashing(callback), delay, ...rest);
  const nativeQueueMicrotask = queueMicrotask;
  globalThis.queueMicrotask = (callback) => nativeQueueMicrotask(crashing(callback));

  globalThis.Response = new Proxy(NativeResponse, {
    construct(target, args, newTarget) {
      checkLength(args[1]?.headers);
      if (!(args[0] instanceof ReadableStream) || args[0] === request?.body) {
        return Reflect.construct(target, args, newTarget);
      }
      const guard = guarded(args[0]);
      const response = Reflect.construct(target, [guard.body, args[1]], newTarget);
      guards.set(response, guard);
      return response;
    },
  });
  NativeResponse.prototype.constructor = globalThis.Response;

  globalThis.process ??= { env: environment() };

  // The client's address, or null: the server writes this field, whatever the client sends.
  Object.defineProperty(Request.prototype, "peer", {
    configurable: true,
    enumerable: true,
    get() {
      return this.headers.get("x-forwarded-for");
    },
  });
}

/**
 * The engine fails on a Content-Length that is no number only when it sends the response, and then
 * answers 500. Only headers in an object are looked at: reading them back from a Response is dear.
 */
function checkLength(headers) {
  for (const name in headers) {
    if (name.length !== 14 || name.toLowerCase() !== "content-length") continue;
    if (!/^[0-9]+$/.test(headers[name])) {
      throw new TypeError(`Response constructor: invalid content-length ${headers[name]}`);
    }
  }
}

/** Outside of the handler's promise nothing catches an exception, and the engine would answer 500. */
function crashing(callback) {
  if (typeof callback !== "function") return callback;
  return (...args) => {
    try {
      return callback(...args);
    } catch (error) {
      crash(error);
    }
  };
}

/**
 * A stream with the same chunks, whose failure is a crash from the moment at which it is the body
 * that a client receives. The request's own body is never guarded: the engine passes that one
 * through without copying it into JavaScript.
 */
function guarded(stream) {
  const reader = stream.getReader();
  const guard = { sent: false, body: undefined };
  const fail = (controller, error) => {
    if (guard.sent) crash(error);
    controller.error(error);
  };
  guard.body = new ReadableStream(
    {
      async pull(controller) {
        try {
          const chunk = await nextChunk(reader);
          if (chunk === undefined) controller.close();
          else controller.enqueue(chunk);
        } catch (error) {
          fail(controller, error);
        }
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
  return guard;
}

/** A copy, since the engine takes the bytes away from the array that it is given. */
async function nextChunk(reader) {
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return undefined;
    if (!(value instanceof Uint8Array)) {
      throw new TypeError(`a body stream gave ${describe(value)}, not a Uint8Array`);
    }
    if (value.length > 0) return value.slice();
  }
}

/** What the manifest grants, read at the first use: while the component is built there is none. */
function environment() {
  let granted;
  const all = () => (request === undefined ? {} : (granted ??= Object.fromEntries(getEnvironment())));
  return new Proxy(
    {},
    {
      get: (_, name) => all()[name],
      has: (_, name) => name in all(),
      ownKeys: () => Reflect.ownKeys(all()),
      getOwnPropertyDescriptor: (_, name) => Reflect.getOwnPropertyDescriptor(all(), name),
    },
  );
}

// ---- warming up -----------------------------------------------------------------------------

/**
 * Takes the engine once through what every request does, while the component is built and with a
 * handler of our own. What the engine makes lazily is then in the component already, rather than
 * made again by each instance: a quarter less page faults for each request.
 */
function warmUp() {
  const applications = handler;
  handler = () => new Response("", { headers: { "content-type": "text/plain" } });
  const event = new Event("fetch");
  const sample = new Request("http://localhost/a", { headers: { accept: "*/*" } });
  Object.defineProperty(event, "request", { value: sample });
  event.respondWith = () => {};
  dispatchEvent(event);
  new URL(sample.url).searchParams.get("b");
  sample.headers.get("accept");
  handler = applications;
  request = undefined;
}
