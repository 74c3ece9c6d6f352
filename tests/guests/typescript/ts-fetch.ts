// The object form, asynchronous, with state that must not outlive a request.
let hits = 0;

export default {
  async fetch(request: Request): Promise<Response> {
    hits += 1;
    const url = new URL(request.url);
    if (request.method === "POST") {
      const body = await request.arrayBuffer();
      return new Response(body, {
        headers: { "content-type": "application/octet-stream", "x-hits": String(hits) },
      });
    }
    return Response.json({
      method: request.method,
      path: url.pathname,
      query: Object.fromEntries(url.searchParams),
      hits,
    });
  },
};
