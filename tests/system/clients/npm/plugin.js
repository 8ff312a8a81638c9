// A plugin on the npm package `ws`, which answers pings by itself.
//
//     node plugin.js PROXY TOPIC TOKEN
//
// Writes the name of each notification; one called "busy" keeps the loop busy for three seconds.
const WebSocket = require("ws");

const [proxy, topic, token] = process.argv.slice(2);
const socket = new WebSocket(proxy);
const send = (t, a, p) => socket.send(JSON.stringify({ t, a, p }));

socket.on("open", () => send("plugin", "authenticate", { token }));
socket.on("message", (data) => {
  const frame = JSON.parse(data);
  if (frame.t === "plugin") {
    send("topic", "subscribe", { t: [topic], sg: "main" });
  } else if (frame.t === "topic") {
    process.stdout.write("subscribed\n");
  } else {
    const name = JSON.parse(frame.p.m).b.notification.notification;
    process.stdout.write(`${name}\n`);
    if (name === "busy") {
      const end = Date.now() + 3000;
      while (Date.now() < end);
      process.stdout.write("free\n");
    }
  }
});
