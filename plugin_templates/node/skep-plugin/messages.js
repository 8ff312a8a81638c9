// What a plugin receives, typed.

import { log } from './log.js';

const NOTIFICATION = 10;
const COMMAND = 21;
const COMMAND_UPDATE = 23;

/**
 * From a device. (deviceId, id) names it for good: a message that comes a second time has the same.
 * @typedef {object} Notification
 * @property {number} id
 * @property {string} name
 * @property {string} deviceId
 * @property {number | null} networkId
 * @property {number | null} deviceTypeId
 * @property {Date} timestamp
 * @property {unknown} parameters
 */

/**
 * For a device, or (`isUpdate`) what a device answered it: status and result. lifetime: seconds.
 * @typedef {object} Command
 * @property {number} id
 * @property {string} name
 * @property {string} deviceId
 * @property {number | null} networkId
 * @property {number | null} deviceTypeId
 * @property {number | null} userId
 * @property {Date} timestamp
 * @property {Date | null} lastUpdated
 * @property {unknown} parameters
 * @property {number | null} lifetime
 * @property {string | null} status
 * @property {unknown} result
 * @property {boolean} isUpdate
 */

/**
 * Messages first to next - 1 of a partition are gone: nobody fetched them within the plugin's retention.
 * @typedef {{partition: number, first: number, next: number}} Gap
 */

/**
 * What the plugin does. Messages of one device come one after the other, those of several side by side.
 *
 * A message is confirmed once its callback has returned. If the callback throws, the plugin disconnects and comes back
 * after a pause; everything that is not confirmed then comes again, so a callback must bear repetition.
 */
export class Handler {
  /** A device sent a notification. @param {Notification} notification */
  async onNotification(notification) {}

  /** Somebody sent a device a command. @param {Command} command */
  async onCommand(command) {}

  /** A device answered a command. @param {Command} command */
  async onCommandUpdate(command) {}

  /** The plugin was away for longer than its messages are kept. @param {Gap} gap */
  async onGap(gap) {
    log.warn(`${gap.next - gap.first} messages of partition ${gap.partition} are lost: away for too long`);
  }
}

/**
 * @param {string} text
 * @returns {{kind: 'notification' | 'command' | 'update', message: Notification | Command}}
 * Throws for what is no message.
 */
export function parse(text) {
  const body = JSON.parse(text).b;
  switch (body.a) {
    case NOTIFICATION:
      return { kind: 'notification', message: common(body.notification, 'notification') };
    case COMMAND:
    case COMMAND_UPDATE: {
      const it = body.command;
      const isUpdate = body.a === COMMAND_UPDATE;
      const own = {
        userId: it.userId ?? null,
        lastUpdated: it.lastUpdated == null ? null : time(it.lastUpdated),
        lifetime: it.lifetime ?? null,
        status: it.status ?? null,
        result: it.result ?? null,
        isUpdate,
      };
      return { kind: isUpdate ? 'update' : 'command', message: { ...common(it, 'command'), ...own } };
    }
    default:
      throw new TypeError(`unknown kind ${body.a}`);
  }
}

function common(it, name) {
  if (typeof it.deviceId !== 'string' || typeof it.id !== 'number') throw new TypeError('no device or no id');
  return {
    id: it.id,
    name: it[name],
    deviceId: it.deviceId,
    networkId: it.networkId ?? null,
    deviceTypeId: it.deviceTypeId ?? null,
    timestamp: time(it.timestamp),
    parameters: it.parameters ?? null,
  };
}

/** The server's times are UTC and do not say so. */
function time(text) {
  const found = new Date(`${text}Z`);
  if (Number.isNaN(found.valueOf())) throw new TypeError(`no time: ${text}`);
  return found;
}
