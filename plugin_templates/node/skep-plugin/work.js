// Order, parallelism and confirmation of what was received. No network here.

import { HandlerFailed } from './errors.js';
import { log } from './log.js';

/** Runs the work of one device in order and that of several devices side by side. */
export class Lanes {
  #free;
  #waiting;
  #room;
  #held = 0;
  #open = true;
  #waiters = [];
  #queues = new Map();
  #running = new Set();
  #fail;

  /**
   * @param {number} parallel how many at a time
   * @param {{waiting?: number, room?: () => void}} options waiting: how many are held before it is `full`; room: called
   * when it is not any more
   */
  constructor(parallel, { waiting = 2000, room = () => {} } = {}) {
    this.#free = parallel;
    this.#waiting = waiting;
    this.#room = room;
    /** Rejects with the first work that throws; nothing is begun after that. @type {Promise<never>} */
    this.failed = new Promise((_, reject) => (this.#fail = reject));
    this.failed.catch(() => {});
  }

  get full() {
    return this.#held >= this.#waiting;
  }

  /** @param {string} deviceId @param {() => Promise<void>} work */
  put(deviceId, work) {
    this.#held += 1;
    const queue = this.#queues.get(deviceId);
    if (queue) {
      queue.push(work);
      return;
    }
    const first = [work];
    this.#queues.set(deviceId, first);
    const running = this.#run(deviceId, first).finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  /** Begin nothing more. */
  close() {
    this.#open = false;
  }

  /** Resolves when all is done that is to be. */
  async idle() {
    while (this.#running.size) await Promise.all(this.#running);
  }

  async #run(deviceId, queue) {
    while (queue.length) {
      const work = queue.shift();
      if (this.#free > 0) this.#free -= 1;
      else await new Promise((resolve) => this.#waiters.push(resolve));
      try {
        if (this.#open) await work();
      } catch (error) {
        log.error(`a callback failed: ${error.stack}`);
        this.#open = false;
        this.#fail(new HandlerFailed(`a callback failed: ${error.message}`));
      }
      const next = this.#waiters.shift();
      if (next) next();
      else this.#free += 1;
      if (this.#held-- === this.#waiting) this.#room();
    }
    this.#queues.delete(deviceId);
  }
}

/** Which offset of each partition may be confirmed: the last before the first message that is not done. */
export class Positions {
  #places = new Map();

  /** A message came: its place, for `done`. */
  received(partition, offset) {
    let places = this.#places.get(partition);
    if (!places) this.#places.set(partition, (places = []));
    const place = { partition, offset, done: false };
    places.push(place);
    return place;
  }

  /** The offset through which the partition is handled now, undefined if that has not moved. */
  done(place) {
    place.done = true;
    const places = this.#places.get(place.partition);
    const pending = places.findIndex((it) => !it.done);
    return places.splice(0, pending < 0 ? places.length : pending).at(-1)?.offset;
  }
}
