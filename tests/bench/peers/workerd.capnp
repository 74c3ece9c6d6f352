using Workerd = import "/workerd/workerd.capnp";

# The socket's address comes by the command line.
const config :Workerd.Config = (
  services = [(name = "main", worker = (
    modules = [(name = "worker", esModule = embed "worker.js")],
    compatibilityDate = "2025-01-01",
  ))],
  sockets = [(name = "http", http = (), service = "main")],
);
