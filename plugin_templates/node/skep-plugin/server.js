// The server's REST API, as far as a plugin needs it: register once, then get access tokens.
//
// What registering gave (topic, refresh token, endpoint) is kept in a file that only its owner may read, so that the
// next start finds the same plugin and what waits for it.

import { closeSync, existsSync, fsyncSync, openSync, readFileSync, renameSync, unlinkSync, writeSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';

import { Unavailable } from './errors.js';
import { log } from './log.js';
import { Unusable } from './settings.js';

const ANSWER = 30_000;

/** @typedef {{topic: string, refreshToken: string, endpoint: string, query: [string, string][]}} Credentials */

export class Server {
  #settings;
  #signal;

  /** @param {import('./settings.js').Settings} settings @param {AbortSignal} signal ends whatever waits */
  constructor(settings, signal) {
    this.#settings = settings;
    this.#signal = signal;
  }

  /** From the environment, from the state file, or by registering. Throws Unusable, Unavailable.
   * @returns {Promise<Credentials>} */
  async credentials() {
    const { topic, refreshToken, endpoint, query, state } = this.#settings;
    if (topic) {
      if (!refreshToken || !endpoint) {
        throw new Unusable('PLUGIN_TOPIC needs PLUGIN_REFRESH_TOKEN and PLUGIN_ENDPOINT beside it');
      }
      return { topic, refreshToken, endpoint, query: [] };
    }
    if (existsSync(state)) {
      const found = this.#load();
      if (!isDeepStrictEqual(found.query, query)) {
        throw new Unusable(
          `the filter in the environment is not the one that ${state} was registered with; ` +
            'delete the file (and the plugin on the server) to register anew',
        );
      }
      return found;
    }
    this.#save(null); // Better to learn now that the file can't be written than with a plugin registered.
    const answer = await this.#register();
    const found = {
      topic: answer.topicName, refreshToken: answer.refreshToken, endpoint: answer.proxyEndpoint, query,
    };
    this.#save(found);
    log.info(`registered as ${found.topic}; its refresh token is in ${state}`);
    return found;
  }

  /** A fresh one; expires: ms since the epoch. Throws Unusable, Unavailable. @param {Credentials} credentials */
  async accessToken(credentials) {
    const { accessToken } = await this.#post('/token/refresh', { refreshToken: credentials.refreshToken }).catch((error) => {
      if (!(error instanceof Unusable)) throw error;
      throw new Unusable(`${error.message} (without ${this.#settings.state} the plugin would register anew)`);
    });
    const { payload } = JSON.parse(Buffer.from(accessToken.split('.')[1], 'base64url').toString());
    return { text: accessToken, expires: payload.e };
  }

  async #register() {
    const { login, password, name, query } = this.#settings;
    if (!login || !password) {
      throw new Unusable("SKEP_LOGIN and SKEP_PASSWORD of the plugin's owner are needed to register it");
    }
    const { accessToken } = await this.#post('/token', { login, password });
    return this.#post(`/plugin?${new URLSearchParams(query)}`, { name }, accessToken);
  }

  async #post(path, body, token = '') {
    const what = path.split('?')[0];
    let answer, text;
    try {
      answer = await fetch(this.#settings.url + path, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json', ...(token && { Authorization: `Bearer ${token}` }) },
        body: JSON.stringify(body),
        signal: AbortSignal.any([this.#signal, AbortSignal.timeout(ANSWER)]),
      });
      text = await answer.text();
    } catch (error) {
      throw new Unavailable(`${this.#settings.url}: ${error.cause?.message || error.message}`);
    }
    if ([408, 429].includes(answer.status) || answer.status >= 500) {
      throw new Unavailable(`${what} is answered with ${answer.status}`);
    }
    if (!answer.ok) throw new Unusable(`${what} is refused with ${answer.status}: ${reason(text)}`);
    return JSON.parse(text);
  }

  #load() {
    const path = this.#settings.state;
    try {
      const found = JSON.parse(readFileSync(path, 'utf8'));
      if (!found.topic || !found.refreshToken || !found.endpoint) throw new Error('something is missing in it');
      return found;
    } catch (error) {
      throw new Unusable(`${path} can't be read: ${error.message}`);
    }
  }

  /** All or nothing. null: only try whether it would work. */
  #save(credentials) {
    const path = this.#settings.state;
    const fresh = `${path}.new`;
    try {
      const file = openSync(fresh, 'w', 0o600);
      if (credentials) {
        writeSync(file, JSON.stringify(credentials));
        fsyncSync(file);
      }
      closeSync(file);
      if (credentials) renameSync(fresh, path);
      else unlinkSync(fresh);
    } catch (error) {
      throw new Unusable(`${path} can't be written: ${error.message}`);
    }
  }
}

function reason(text) {
  try {
    return JSON.parse(text).message || text;
  } catch {
    return text.slice(0, 200) || 'no reason given';
  }
}
