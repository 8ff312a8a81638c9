// A server to test against: REST for tokens and registration, and the plugin's WebSocket, played by the test.

import { once } from 'node:events';
import { createServer } from 'node:http';

import { WebSocketServer } from 'ws';

export const TOPIC = 'plugin_topic_1';

/** Things in the order they come, for who waits for them. */
export class Queue {
  #items = [];
  #waiting = [];

  put(item) {
    const waiter = this.#waiting.shift();
    if (waiter) waiter(item);
    else this.#items.push(item);
  }

  async take(what = 'something') {
    if (this.#items.length) return this.#items.shift();
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`${what} did not come`)), 30_000);
    });
    try {
      return await Promise.race([new Promise((resolve) => this.#waiting.push(resolve)), late]);
    } finally {
      clearTimeout(timer);
    }
  }
}

export function token(number, life) {
  const payload = { payload: { e: Date.now() + life, t: 1, tpc: TOPIC, number } };
  return `e30.${Buffer.from(JSON.stringify(payload)).toString('base64url')}.sig`;
}

/** ms since the epoch */
export function expiry(text) {
  return JSON.parse(Buffer.from(text.split('.')[1], 'base64url').toString()).payload.e;
}

/** The REST API. requests: what was asked. answers: path -> [status, body] instead of the usual. */
export class Rest {
  requests = [];
  asked = new Queue();
  answers = {};
  life = 1_800_000;
  endpoint = '';

  async start() {
    this.server = createServer(async (request, response) => {
      const chunks = await request.toArray();
      const url = new URL(request.url, 'http://x');
      const body = JSON.parse(Buffer.concat(chunks).toString() || 'null');
      const asked = { path: url.pathname, query: [...url.searchParams], body, headers: request.headers };
      this.requests.push(asked);
      const [status, answer] = this.answers[url.pathname] ?? this.#usual(url.pathname);
      response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(answer));
      this.asked.put(asked);
    }).listen(0, '127.0.0.1');
    await once(this.server, 'listening');
    this.url = `http://127.0.0.1:${this.server.address().port}`;
    return this;
  }

  paths() {
    return this.requests.map(({ path }) => path);
  }

  #usual(path) {
    if (path === '/token/refresh') return [201, { accessToken: token(this.requests.length, this.life) }];
    if (path === '/token') return [201, { accessToken: 'user-access', refreshToken: 'user-refresh' }];
    const tokens = { accessToken: token(0, this.life), refreshToken: 'plugin-refresh' };
    return [201, { ...tokens, proxyEndpoint: this.endpoint, topicName: TOPIC }];
  }

  stop() {
    this.server.close();
    this.server.closeAllConnections();
  }
}

/** One connection of the plugin, seen from the server. */
class Peer {
  frames = new Queue();
  subscription = {};

  constructor(socket, extension) {
    this.socket = socket;
    this.extension = extension;
    this.closed = once(socket, 'close').then(([code]) => code);
    socket.on('message', (data) => this.frames.put([JSON.parse(data)].flat()));
  }

  /** The next frame is that request; it is returned and not yet answered. */
  async expect(t, a) {
    const [frame] = await this.frames.take(`${t} ${a}`);
    if (frame.t !== t || frame.a !== a) throw new Error(`not ${t} ${a}: ${JSON.stringify(frame)}`);
    return frame;
  }

  reply({ id, t, a }, p = {}, failed = false) {
    this.socket.send(JSON.stringify({ id, t, a, s: Number(failed), p }));
  }

  /** Health, authenticate, subscribe; the token. */
  async letIn() {
    this.reply(await this.expect('health'), { prx: 'Available', ...(this.extension && { ack: true }) });
    const authenticate = await this.expect('plugin', 'authenticate');
    this.reply(authenticate);
    const subscribe = await this.expect('topic', 'subscribe');
    this.subscription = subscribe.p;
    this.reply(subscribe);
    return authenticate.p.token;
  }

  push(body, off, part = 0) {
    const m = JSON.stringify({ b: body, cId: 'c', l: false, err: 0, fld: false });
    const p = this.extension ? { m, part, off } : { m };
    this.socket.send(JSON.stringify({ t: 'notif', s: 0, p, st: TOPIC }));
  }

  /** Confirmations come until this one. */
  async confirmed(off, part = 0) {
    for (;;) {
      for (const { t, p } of await this.frames.take(`ack of ${off}`)) {
        if (t !== 'ack' || (p.part === part && p.off > off)) throw new Error(`not ack of ${off}: ${JSON.stringify(p)}`);
        if (p.part === part && p.off === off) return;
      }
    }
  }
}

/** The plugin's endpoint; `peer` waits for the plugin to connect. */
export class Bus {
  #peers = new Queue();

  async start(extension = true) {
    this.server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
    this.server.on('connection', (socket) => this.#peers.put(new Peer(socket, extension)));
    await once(this.server, 'listening');
    this.url = `ws://127.0.0.1:${this.server.address().port}`;
    return this;
  }

  peer() {
    return this.#peers.take('the plugin');
  }

  stop() {
    for (const client of this.server.clients) client.terminate();
    this.server.close();
  }
}

const message = (id, deviceId, parameters) => ({
  id, deviceId, networkId: 1, deviceTypeId: 1, timestamp: '2018-05-25T10:00:00.123', parameters,
});

export function notification(id, device = 'd1', parameters = null) {
  return { a: 10, notification: { ...message(id, device, parameters), notification: 'temperature' } };
}

export function command(id, device = 'd1', update = false) {
  const own = {
    command: 'open', lastUpdated: update ? '2018-05-25T10:00:01.000' : null, userId: 1, lifetime: null,
    status: update ? 'done' : null, result: update ? { ok: true } : null, isUpdated: update,
  };
  return { a: update ? 23 : 21, command: { ...message(id, device, null), ...own } };
}
