// What rusmd adds to the web's interfaces. Editors and tsc find it when it is in the `include` or the `files` of tsconfig.json.

interface Request {
  /**
   * The address of the client, such as "192.0.2.7" or "2001:db8::7": that of whoever is behind the proxies that the manifest trusts.
   * null where there is none, as for a client of a Unix socket, or for a request that the application has made itself.
   */
  readonly peer: string | null;
}
