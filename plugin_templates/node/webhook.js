// Posts JSON to a URL, signed and tried several times; and what a receiver checks the signature with.

import { createHmac, timingSafeEqual } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

import { log } from './skep-plugin/plugin.js';

/** `X-Signature`: when it was signed, and HMAC-SHA256 of "<seconds>.<body>" with the secret that both sides know. */
export function signature(secret, body, seconds = Math.floor(Date.now() / 1000)) {
  return `t=${seconds},v1=${createHmac('sha256', secret).update(`${seconds}.`).update(body).digest('hex')}`;
}

/** Whether the body is as the holder of the secret signed it, not longer ago than `tolerance` seconds. */
export function verify(secret, header, body, tolerance = 300) {
  const seconds = Number(/^t=(\d{1,12}),/.exec(header)?.[1]);
  if (!(Math.abs(Date.now() / 1000 - seconds) <= tolerance)) return false;
  const given = Buffer.from(header);
  const right = Buffer.from(signature(secret, body, seconds));
  return given.length === right.length && timingSafeEqual(given, right);
}

export class Webhook {
  #url;
  #secret;
  #attempts;
  #timeout;
  #pause;

  /** attempts: before it gives up. timeout: of one of them, ms. pause: after the first, ms; doubled each time. */
  constructor({ url, secret, attempts = 5, timeout = 10_000, pause = 500 }) {
    this.#url = url;
    this.#secret = secret;
    this.#attempts = attempts;
    this.#timeout = timeout;
    this.#pause = pause;
  }

  /** Resolves when the receiver has answered with 2xx. key: names the message, so that it can tell repetitions. */
  async post(key, value) {
    const body = JSON.stringify(value);
    for (let attempt = 1; ; attempt++) {
      const problem = await this.#try(key, body);
      if (!problem) return;
      if (attempt >= this.#attempts) throw new Error(`${this.#url}: ${problem}, ${attempt} times`);
      log.warn(`${this.#url}: ${problem}`);
      await sleep(this.#pause * 2 ** (attempt - 1) * (0.5 + Math.random() / 2));
    }
  }

  /** Why it failed, undefined if it did not. */
  async #try(key, body) {
    const headers = {
      'Content-Type': 'application/json',
      'X-Message-Key': key,
      'X-Signature': signature(this.#secret, body),
    };
    try {
      const signal = AbortSignal.timeout(this.#timeout);
      const answer = await fetch(this.#url, { method: 'POST', headers, body, signal, redirect: 'manual' });
      await answer.body?.cancel();
      return answer.ok ? undefined : `answered with ${answer.status}`;
    } catch (error) {
      return error.cause?.message || error.message;
    }
  }
}
