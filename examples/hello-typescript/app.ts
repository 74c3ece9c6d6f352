// A wasi:http component — instantiated per request. It dispatches itself, so it
// needs no `[serve.routes]` table; read path params off the URL.
export default function handle(request: Request): Response {
  const id = new URL(request.url).pathname.split("/").pop();
  return new Response(`user ${id ?? "?"}`, {
    headers: { "content-type": "text/plain" },
  });
}
