// The smallest worker of workerd.
export default {
  fetch() {
    return new Response("hello world\n", { headers: { "content-type": "text/plain" } });
  },
};
