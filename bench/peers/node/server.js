// Node's `ws`: `client.send()` to each of `wss.clients`, the broadcast of its README.
//
//     node server.js [CERT KEY]
"use strict";

const fs = require("node:fs");
const http = require("node:http");
const https = require("node:https");
const net = require("node:net");

// Installed beside a copy of this file, outside the source tree.
const { WebSocket, WebSocketServer } = require("ws");

const [cert, key] = process.argv.slice(2);
const server = cert
  ? https.createServer({
      cert: fs.readFileSync(cert),
      key: fs.readFileSync(key),
      minVersion: "TLSv1.3",
    })
  : http.createServer();
const sockets = new WebSocketServer({ server, perMessageDeflate: false });

sockets.on("connection", (socket) => {
  socket.on("error", () => {});
  socket.send('{"type":"subscribed"}');
});

function broadcast(data) {
  sockets.clients.forEach((client) => {
    if (client.readyState === WebSocket.OPEN) client.send(data, { binary: false });
  });
}

const feed = net.createServer((connection) => {
  let rest = Buffer.alloc(0);
  connection.on("data", (chunk) => {
    const data = rest.length ? Buffer.concat([rest, chunk]) : chunk;
    let at = 0;
    for (let end; (end = data.indexOf(10, at)) >= 0; at = end + 1) {
      broadcast(data.subarray(at, end));
    }
    rest = data.subarray(at);
  });
});

server.listen({ port: 0, host: "127.0.0.1", backlog: 4096 }, () => {
  feed.listen(0, "127.0.0.1", () => {
    console.log(JSON.stringify({ port: server.address().port, feed: feed.address().port }));
  });
});
