// The smallest server of Node's own HTTP: as many processes as it is told, which share the port.
import cluster from "node:cluster";
import { createServer } from "node:http";

const [port, processes] = process.argv.slice(2).map(Number);

if (cluster.isPrimary) {
  for (let number = 0; number < processes; number++) cluster.fork();
  process.on("SIGTERM", () => process.exit(0));
} else {
  createServer((_request, response) => {
    response.writeHead(200, { "content-type": "text/plain", "content-length": 12 });
    response.end("hello world\n");
  }).listen(port, "127.0.0.1");
}
