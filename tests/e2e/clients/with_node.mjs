// Node's clients, `fetch` and `http`: node with_node.mjs URL SECURE_URL AUTHORITY. Ends with 0 when all came out as it should.

import assert from "node:assert/strict";
import fs from "node:fs";
import http from "node:http";
import https from "node:https";

const PIECE = Buffer.from(Array.from({ length: 251 * 64 }, (_, n) => n % 251));
const [url, secureUrl, authority] = process.argv.slice(2);

// One request by `http` or `https`, and its whole answer.
function ask(from, target, { body, ...options } = {}) {
  return new Promise((resolve, reject) => {
    const request = from.request(target, options, (response) => {
      const pieces = [];
      response.on("data", (piece) => pieces.push(piece));
      response.on("error", reject);
      response.on("end", () =>
        resolve({
          status: response.statusCode,
          headers: response.headers,
          trailers: response.trailers,
          body: Buffer.concat(pieces),
          isReused: request.reusedSocket,
        }),
      );
    });
    request.on("error", reject);
    if (options.headers?.expect) {
      request.flushHeaders();
      request.on("continue", () => request.end(body));
    } else {
      request.end(body);
    }
  });
}

function stream(count) {
  let left = count;
  return new ReadableStream({
    pull(controller) {
      if (left-- === 0) controller.close();
      else controller.enqueue(PIECE);
    },
  });
}

async function anAgentKeepsItsConnection() {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  for (let number = 0; number < 20; number++) {
    const body = PIECE.subarray(0, number);
    const answer = await ask(http, `${url}/echo`, { agent, method: "POST", body });
    assert.equal(answer.status, 200);
    assert.deepEqual(answer.body, body);
    assert.equal(answer.isReused, number > 0);
  }
  const head = await ask(http, `${url}/hello`, { agent, method: "HEAD" });
  assert.equal(head.headers["content-length"], "6");
  const patient = { agent, method: "POST", headers: { expect: "100-continue", "content-length": 5 }, body: "hello" };
  assert.equal((await ask(http, `${url}/echo`, patient)).body.toString(), "hello");
  const trailing = await ask(http, `${url}/trailers`, { agent, headers: { te: "trailers" } });
  assert.deepEqual({ ...trailing.trailers }, { "x-sum": "42" });
  assert.ok(trailing.isReused);
  agent.destroy();
}

async function fetchStreamsBothWays() {
  const sent = await fetch(`${url}/echo`, { method: "POST", body: stream(500), duplex: "half" });
  assert.deepEqual(Buffer.from(await sent.arrayBuffer()), Buffer.concat(Array(500).fill(PIECE)));
  const got = await fetch(`${url}/download?bytes=20000000`);
  let total = 0;
  for await (const piece of got.body) total += piece.length;
  assert.equal(total, 20_000_000);
  const text = "a".repeat(4000);
  const packed = await fetch(`${url}/show?text=${text}`, { headers: { "accept-encoding": "br" } });
  assert.equal(packed.headers.get("content-encoding"), "br");
  assert.ok((await packed.text()).includes(text));
}

async function fetchMayBeAborted() {
  const controller = new AbortController();
  const slow = await fetch(`${url}/slow-body?pieces=100&ms=20`, { signal: controller.signal });
  const reader = slow.body.getReader();
  assert.ok((await reader.read()).value.length > 0);
  controller.abort();
  await assert.rejects(reader.read(), { name: "AbortError" });
  await assert.rejects(fetch(`${url}/sleep?ms=2000`, { signal: AbortSignal.timeout(200) }), { name: "TimeoutError" });
  assert.equal(await (await fetch(`${url}/hello`)).text(), "hello\n");
}

async function manyAtOnceAreServed() {
  const answers = await Promise.all(Array.from({ length: 200 }, () => fetch(`${url}/hello`).then((a) => a.text())));
  assert.deepEqual(new Set(answers), new Set(["hello\n"]));
}

async function tlsIsAsGoodAsNone() {
  const agent = new https.Agent({ keepAlive: true, maxSockets: 1, ca: fs.readFileSync(authority) });
  for (let number = 0; number < 3; number++) {
    const answer = await ask(https, `${secureUrl}/echo`, { agent, method: "POST", body: PIECE });
    assert.deepEqual(answer.body, PIECE);
    assert.equal(answer.isReused, number > 0);
  }
  agent.destroy();
}

await anAgentKeepsItsConnection();
await fetchStreamsBothWays();
await fetchMayBeAborted();
await manyAtOnceAreServed();
await tlsIsAsGoodAsNone();
// What `fetch` keeps open would keep this process alive for a while.
process.exit(0);
