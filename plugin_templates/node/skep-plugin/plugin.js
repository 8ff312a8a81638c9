// The plugin's connection: kept up with fresh tokens, and ended in order.

import { setTimeout as sleep } from 'node:timers/promises';

import { Temporary, Unavailable } from './errors.js';
import { log } from './log.js';
import { Server } from './server.js';
import { Session } from './session.js';
import { Unusable, fromEnvironment } from './settings.js';

export { Handler } from './messages.js';
export { Unusable, get, number } from './settings.js';
export { log } from './log.js';

/** Longest wait at the end for callbacks that are under way, ms. */
const STOP = 10_000;
/** Between attempts to connect, ms; doubled each time, and begun anew after a connection of `longest`. */
export const PAUSE = { first: 500, longest: 30_000 };

/** Connects, and connects again, until `stop`. */
export class Plugin {
  #handler;
  #settings;
  #stop = new AbortController();
  #stopped;

  /** @param {import('./messages.js').Handler} handler @param {import('./settings.js').Settings} settings */
  constructor(handler, settings) {
    this.#handler = handler;
    this.#settings = settings;
    this.#stopped = new Promise((resolve) => this.#stop.signal.addEventListener('abort', () => resolve(false)));
  }

  /** `run` finishes what is under way, confirms it, closes the connection and returns. */
  stop() {
    this.#stop.abort();
  }

  /** Throws Unusable. */
  async run() {
    const { signal } = this.#stop;
    const server = new Server(this.#settings, signal);
    let pause = PAUSE.first;
    let credentials;
    while (!signal.aborted) {
      const began = performance.now();
      try {
        credentials ??= await server.credentials();
        await this.#connect(server, credentials);
      } catch (error) {
        if (!(error instanceof Temporary)) throw error;
        if (signal.aborted) return;
        if (performance.now() - began > PAUSE.longest) pause = PAUSE.first;
        const wait = pause * (0.5 + Math.random() / 2); // So that not all come back at once.
        pause = Math.min(2 * pause, PAUSE.longest);
        log.warn(`${error.message}; next attempt in ${(wait / 1000).toFixed(1)} s`);
        await sleep(wait, undefined, { signal }).catch(() => {});
      }
    }
  }

  /** One connection, from the token to its end. Returns when `stop` was called; throws why it ended else. */
  async #connect(server, credentials) {
    const token = await server.accessToken(credentials);
    const session = new Session(credentials.endpoint, this.#handler, this.#settings.parallel);
    const end = new AbortController();
    try {
      const opened = session.open(token.text, credentials.topic, this.#settings.group).then(() => true);
      opened.catch(() => {}); // Nobody looks where `stop` comes first.
      if (!(await Promise.race([opened, this.#stopped]))) return;
      log.info(`connected to ${credentials.endpoint} as ${credentials.topic}`);
      const kept = keepToken(session, server, credentials, token, end.signal);
      await Promise.race([session.ended, session.lanes.failed, kept, this.#stopped]);
      if (session.acknowledges) await this.#finish(session);
      await session.unsubscribe();
    } finally {
      end.abort();
      // The next connection brings what is unconfirmed again: only after what is under way, or order is lost.
      await this.#finish(session);
      await session.close();
    }
  }

  /** Wait for the callbacks that are under way; when stopping, not longer than STOP. */
  async #finish({ lanes, acknowledges }) {
    if (acknowledges) lanes.close(); // What has not begun comes again; elsewhere it does not, so it is done as well.
    const end = new AbortController();
    const late = this.#stopped.then(() => sleep(STOP, undefined, { signal: end.signal })).catch(() => {});
    await Promise.race([lanes.idle(), late]);
    end.abort();
  }
}

/** A fresh token at four fifths of the old one's life. Never returns; throws Unusable, Refused, Closed. */
function keepToken(session, server, credentials, token, signal) {
  const keeping = (async () => {
    for (;;) {
      await sleep(Math.min(Math.max(2000, 0.8 * (token.expires - Date.now())), 2 ** 31 - 1), undefined, { signal });
      try {
        token = await server.accessToken(credentials);
      } catch (error) {
        if (!(error instanceof Unavailable)) throw error;
        log.warn(`no fresh token yet: ${error.message}`);
        continue;
      }
      await session.authenticate(token.text);
    }
  })();
  keeping.catch(() => {}); // Nobody looks once the connection has ended otherwise.
  return keeping;
}

/**
 * Until SIGTERM or SIGINT.
 * @param {import('./messages.js').Handler} handler
 * @param {string} name what the plugin is called where PLUGIN_NAME says nothing
 * @returns {Promise<number>} the exit code: 0 stopped, 2 it can't run with these settings
 */
export async function run(handler, name) {
  try {
    const plugin = new Plugin(handler, fromEnvironment(name));
    for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => plugin.stop());
    await plugin.run();
    return 0;
  } catch (error) {
    if (!(error instanceof Unusable)) throw error;
    log.error(error.message);
    return 2;
  }
}
