/// <reference path="../../../sdk/typescript/rusmd.d.ts" />
// One fault for each path, and next to them the healthy answers that the tests compare with.
// Every request gets an instance of its own, so no fault may be seen by the request after it.

const text = (body: string, status = 200): Response =>
  new Response(body, { status, headers: { "content-type": "text/plain" } });

const pause = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));

const numberIn = (url: URL, name: string, otherwise: number): number =>
  Number(url.searchParams.get(name) ?? otherwise);

type Route = (request: Request, url: URL) => unknown;

const routes: Record<string, Route> = {
  hello: () => text("hello\n"),
  after: () => text("after\n"),
  status: (_request, url) => text("as you wish\n", Number(url.pathname.split("/")[2])),
  headers: (request) => Response.json(Object.fromEntries(request.headers)),
  peer: (request) => text(`${request.peer}\n`),
  environment: () => Response.json({ ...process.env }),
  echo: (request) => new Response(request.body),
  transform: (request) => new Response(request.body!.pipeThrough(new TransformStream())),
  sleep: async (_request, url) => {
    await pause(numberIn(url, "ms", 100));
    return text("slept\n");
  },
  log: () => {
    console.log("a line by console.log");
    console.info("a line by console.info");
    console.warn("a line by console.warn");
    console.error("a line by console.error");
    return text("logged\n");
  },
  // A body made of `chunks` pieces of `size` bytes.
  stream: (_request, url) => {
    let left = numberIn(url, "chunks", 16);
    const piece = new Uint8Array(numberIn(url, "size", 65536)).fill(0x2e);
    return new Response(
      new ReadableStream({
        pull(controller) {
          if (left-- > 0) controller.enqueue(piece);
          else controller.close();
        },
      }),
    );
  },

  // Crashes before the head: 502.
  throw: () => {
    throw new Error("thrown on purpose", { cause: new TypeError("the cause of it") });
  },
  "throw-string": () => {
    throw "a string thrown on purpose";
  },
  reject: async () => {
    await pause(1);
    throw new Error("rejected on purpose");
  },
  "throw-in-timer": () =>
    new Promise(() => {
      setTimeout(() => {
        throw new Error("thrown in a timer on purpose");
      }, 1);
    }),
  recursion: () => {
    const deeper = (n: number): number => 1 + deeper(n + 1);
    return text(String(deeper(0)));
  },
  memory: () => {
    const kept: Uint8Array[] = [];
    for (;;) kept.push(new Uint8Array(4 << 20).fill(1));
  },
  "memory-objects": () => {
    const kept: unknown[] = [];
    for (;;) kept.push({ text: `object ${kept.length}`, list: [1, 2, 3] });
  },
  // Takes and touches so many MiB, and answers: the limit's other side.
  "memory-use": (_request, url) => {
    const bytes = new Uint8Array(numberIn(url, "mb", 16) << 20).fill(1);
    return text(`${bytes.length} bytes\n`);
  },
  "returns-nothing": () => undefined,
  "returns-string": () => "not a response",
  "returns-null-later": async () => null,
  "returns-read-response": async () => {
    const response = text("read\n");
    await response.text();
    return response;
  },
  "invalid-status": () => new Response("out of range", { status: 999 }),
  "invalid-header": () => new Response("split", { headers: { "x-split": "a\r\nb: c" } }),
  "invalid-length": () => new Response("ten bytes.", { headers: { "content-length": "ten" } }),

  // Failures after the head: the connection is cut.
  "throw-after-head": () => {
    let first = true;
    return new Response(
      new ReadableStream({
        async pull(controller) {
          if (!first) throw new Error("thrown after the head on purpose");
          first = false;
          controller.enqueue(new TextEncoder().encode("first chunk\n"));
          await pause(20);
        },
      }),
    );
  },
  "string-after-head": () => {
    let first = true;
    return new Response(
      new ReadableStream({
        pull(controller) {
          controller.enqueue(first ? new TextEncoder().encode("first chunk\n") : "not bytes");
          first = false;
        },
      }),
    );
  },
  "short-body": () => new Response("ten bytes.", { headers: { "content-length": "20" } }),
  "long-body": () => new Response("ten bytes.", { headers: { "content-length": "5" } }),

  // Deadlines: 504.
  spin: () => {
    for (;;);
  },
  never: () => new Promise(() => {}),
};

declare const process: { env: Record<string, string> };

export default function handle(request: Request): Response {
  const url = new URL(request.url);
  const route = routes[url.pathname.split("/")[1]];
  if (route === undefined) return text("no such fault\n", 404);
  return route(request, url) as Response;
}
