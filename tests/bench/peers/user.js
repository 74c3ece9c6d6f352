// What tests/guests/typescript/ts-hello.ts does, without its types: in the form of a bundle for RUSM's own JavaScript runner.
module.exports.default = function handle(request) {
  const id = new URL(request.url).pathname.split("/").pop();
  return new Response(`user ${id ?? "?"}`, {
    headers: { "content-type": "text/plain" },
  });
};
