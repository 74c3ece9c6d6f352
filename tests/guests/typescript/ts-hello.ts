// The default-function form, as short as it gets: the benchmark's guest.
export default function handle(request: Request): Response {
  const id = new URL(request.url).pathname.split("/").pop();
  return new Response(`user ${id ?? "?"}`, {
    headers: { "content-type": "text/plain" },
  });
}
