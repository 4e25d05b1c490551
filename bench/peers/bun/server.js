// Bun: `server.publish()` to a topic that every socket subscribes to, as in its documentation.
//
//     bun server.js [CERT KEY]

const TOPIC = "energy";
const [cert, key] = process.argv.slice(2);

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  tls: cert ? { cert: Bun.file(cert), key: Bun.file(key) } : undefined,
  fetch(request, server) {
    if (!server.upgrade(request)) return new Response("not a WebSocket", { status: 426 });
  },
  websocket: {
    perMessageDeflate: false,
    open(socket) {
      socket.subscribe(TOPIC);
      socket.send('{"type":"subscribed"}');
    },
    message() {},
  },
});

const feed = Bun.listen({
  hostname: "127.0.0.1",
  port: 0,
  socket: {
    open(feeder) {
      feeder.data = Buffer.alloc(0);
    },
    data(feeder, chunk) {
      const data = feeder.data.length ? Buffer.concat([feeder.data, chunk]) : chunk;
      let at = 0;
      for (let end; (end = data.indexOf(10, at)) >= 0; at = end + 1) {
        server.publish(TOPIC, data.toString("utf8", at, end));
      }
      // Bun reuses the chunk's memory.
      feeder.data = Buffer.from(data.subarray(at));
    },
  },
});

console.log(JSON.stringify({ port: server.port, feed: feed.port }));
