// One connection: requests with their replies, pushes to the handler, confirmations back.
//
// A server that does not announce `ack` (DeviceHive) takes the pong of its ping as confirmation; where too much waits to
// be handled, nothing more is read, and so no pong is sent.

import WebSocket from 'ws';

import { Closed, Refused } from './errors.js';
import { log } from './log.js';
import { parse } from './messages.js';
import { Lanes, Positions } from './work.js';

/** Longest wait for a reply, ms. */
const ANSWER = 30_000;
/** For how long confirmations are gathered into one frame, ms. */
const GATHER = 20;
/** Between pings, ms; without an answer to the last one the connection is given up. */
const PING = 20_000;
/** Longest wait for the server's close frame, ms. */
const CLOSE = 5_000;
const MAX_MESSAGE = 4 << 20;

const PUSHED = { notification: 'onNotification', command: 'onCommand', update: 'onCommandUpdate' };

export class Session {
  #socket;
  #handler;
  #topic = '';
  #lastId = 0;
  #replies = new Map();
  #positions = new Positions();
  #handled = new Map();
  #gathering;

  /**
   * @param {string} url
   * @param {import('./messages.js').Handler} handler
   * @param {number} parallel
   */
  constructor(url, handler, parallel) {
    this.#handler = handler;
    this.#socket = new WebSocket(url, { maxPayload: MAX_MESSAGE, handshakeTimeout: ANSWER, perMessageDeflate: false });
    /** Whether the server wants confirmations of its own; else everything that is received is confirmed. */
    this.acknowledges = false;
    /** What waits to be handled. */
    this.lanes = new Lanes(parallel, { room: () => this.#socket.resume() });
    this.#socket.on('message', (data) => this.#received(data));
    let problem;
    this.#socket.on('error', (error) => (problem = error.message));
    this.connected = new Promise((resolve) => this.#socket.once('open', resolve));
    /** Rejects when the connection ends. @type {Promise<never>} */
    this.ended = new Promise((_, reject) =>
      this.#socket.once('close', (code, reason) => {
        clearTimeout(this.#gathering);
        reject(new Closed(`the connection to ${url} ended: ${problem ?? `${code} ${reason}`.trim()}`));
      }),
    );
    this.ended.catch(() => {});
    this.#watch();
  }

  /** Authenticate and subscribe. Throws Refused, Closed. */
  async open(token, topic, group) {
    await Promise.race([this.connected, this.ended]);
    this.#topic = topic;
    this.acknowledges = (await this.request('health')).ack === true;
    await this.authenticate(token);
    const options = { ...(group && { sg: group }), ...(this.acknowledges && { ack: true }) };
    await this.request('topic', 'subscribe', { t: [topic], ...options });
  }

  async authenticate(token) {
    await this.request('plugin', 'authenticate', { token });
  }

  /** Confirm what is handled. The reply comes after all confirmations were taken. */
  async unsubscribe() {
    this.#confirm();
    await this.request('topic', 'unsubscribe', { t: [this.#topic] });
  }

  /** Confirm what is handled, and close. Resolves when it is closed. */
  async close() {
    this.#confirm();
    this.#socket.close(1000);
    const timer = setTimeout(() => this.#socket.terminate(), CLOSE);
    await this.ended.catch(() => {});
    clearTimeout(timer);
  }

  /** The reply's payload. Throws Refused, Closed. */
  async request(t, a, p) {
    const id = String(++this.#lastId);
    let timer;
    const reply = new Promise((resolve, reject) => {
      this.#replies.set(id, resolve);
      timer = setTimeout(() => reject(new Closed(`no reply to ${t} within ${ANSWER} ms`)), ANSWER);
    });
    try {
      this.#socket.send(JSON.stringify({ id, t, a, p }), () => {});
      const answer = await Promise.race([reply, this.ended]);
      if (answer.s) throw new Refused(`${[t, a].filter(Boolean).join(' ')}: ${answer.p?.m ?? 'refused'}`);
      return answer.p ?? {};
    } finally {
      clearTimeout(timer);
      this.#replies.delete(id);
    }
  }

  #received(data) {
    let frames;
    try {
      frames = JSON.parse(data);
    } catch (error) {
      log.warn(`the server sent what is no JSON: ${error.message}`);
      return;
    }
    for (const frame of Array.isArray(frames) ? frames : [frames]) {
      if (frame.id !== undefined) {
        if (frame.t !== 'ack') this.#replies.get(frame.id)?.(frame);
      } else if (frame.t === 'notif') this.#pushed(frame.p ?? {});
      else if (frame.s) log.warn(`the server complains: ${frame.p?.m}`);
    }
    // No ping is answered then. A server with `ack` never lets it come to that, it sends 1000 ahead.
    if (this.lanes.full) this.#socket.pause();
  }

  #pushed({ m, part, off, gap }) {
    if (gap) {
      const told = { partition: part, first: gap[0], next: gap[1] };
      this.lanes.put('', () => this.#handler.onGap(told));
      return;
    }
    const place = this.acknowledges ? this.#positions.received(part, off) : undefined;
    let pushed;
    try {
      pushed = parse(m);
    } catch (error) {
      log.warn(`passed over a message that can't be read (${error.message}): ${String(m).slice(0, 200)}`);
      this.#done(place);
      return;
    }
    this.lanes.put(pushed.message.deviceId, async () => {
      await this.#handler[PUSHED[pushed.kind]](pushed.message);
      this.#done(place);
    });
  }

  #done(place) {
    const offset = place && this.#positions.done(place);
    if (offset === undefined) return;
    this.#handled.set(place.partition, offset);
    this.#gathering ??= setTimeout(() => this.#confirm(), GATHER);
  }

  #confirm() {
    clearTimeout(this.#gathering);
    this.#gathering = undefined;
    const places = [...this.#handled].map(([part, off]) => ({ t: 'ack', p: { t: this.#topic, part, off } }));
    this.#handled.clear();
    if (places.length && this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(places), () => {});
  }

  /** End a connection whose other side is gone without a word. */
  #watch() {
    let answered = true;
    this.#socket.on('pong', () => (answered = true));
    const timer = setInterval(() => {
      if (this.#socket.readyState !== WebSocket.OPEN || this.#socket.isPaused) return;
      if (!answered) this.#socket.terminate();
      answered = false;
      this.#socket.ping(() => {});
    }, PING);
    this.ended.catch(() => clearInterval(timer));
  }
}
