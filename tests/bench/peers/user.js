// What tests/guests/typescript/ts-hello.ts does, without its types: the bundle that RUSM's own JavaScript runner takes.
export default function handle(request) {
  const id = new URL(request.url).pathname.split("/").pop();
  return new Response(`user ${id ?? "?"}`, {
    headers: { "content-type": "text/plain" },
  });
}
