// Settings, from the environment. Each may also lie in a file that NAME_FILE names (secrets of Docker and others).

import { readFileSync } from 'node:fs';

/** The plugin can't run like this. The text is for the person who set it up. */
export class Unusable extends Error {}

/** What PLUGIN_RECEIVE may name, and what it is called at registration. */
const RECEIVE = { notifications: 'returnNotifications', commands: 'returnCommands', updates: 'returnUpdatedCommands' };
const FILTER = {
  PLUGIN_DEVICE_ID: 'deviceId',
  PLUGIN_NETWORK_IDS: 'networkIds',
  PLUGIN_DEVICE_TYPE_IDS: 'deviceTypeIds',
  PLUGIN_NAMES: 'names',
  PLUGIN_RETENTION: 'retention',
};

/** The value of NAME, or what is in the file that NAME_FILE names. Throws Unusable. */
export function get(name, fallback = '') {
  const path = process.env[`${name}_FILE`];
  if (!path) return process.env[name] || fallback;
  try {
    return readFileSync(path, 'utf8').trim();
  } catch (error) {
    throw new Unusable(`${name}_FILE can't be read: ${error.message}`);
  }
}

export function number(name, fallback, least = 1) {
  const text = get(name, String(fallback));
  if (!/^\d{1,15}$/.test(text) || Number(text) < least) {
    throw new Unusable(`${name} must be a whole number of at least ${least}, not '${text}'`);
  }
  return Number(text);
}

/**
 * @typedef {object} Settings
 * @property {string} url the server's REST API
 * @property {string} login of the owner, as `password`; needed only to register
 * @property {string} password
 * @property {string} name
 * @property {[string, string][]} query the filter, as it goes into the registration
 * @property {string} group copies with one group share the devices; '': each gets everything
 * @property {string} state path of the file with the registration
 * @property {string} topic of a plugin that is registered already, as `refreshToken` and `endpoint`; else ''
 * @property {string} refreshToken
 * @property {string} endpoint
 * @property {number} parallel how many messages (of different devices) are handled at a time
 */

/**
 * @param {string} name what the plugin is called where PLUGIN_NAME says nothing
 * @returns {Settings} Throws Unusable.
 */
export function fromEnvironment(name) {
  return {
    url: get('SKEP_URL', 'http://127.0.0.1:8080/api/rest').replace(/\/+$/, ''),
    login: get('SKEP_LOGIN'),
    password: get('SKEP_PASSWORD'),
    name: get('PLUGIN_NAME', name),
    query: query(),
    // Set but empty: no group, every copy of the plugin gets everything.
    group: process.env.PLUGIN_GROUP ?? 'main',
    state: get('PLUGIN_STATE', 'plugin-state.json'),
    topic: get('PLUGIN_TOPIC'),
    refreshToken: get('PLUGIN_REFRESH_TOKEN'),
    endpoint: get('PLUGIN_ENDPOINT'),
    parallel: number('PLUGIN_PARALLEL', 32),
  };
}

function query() {
  const wanted = get('PLUGIN_RECEIVE', 'notifications').split(',').map((kind) => kind.trim());
  const unknown = wanted.filter((kind) => !Object.hasOwn(RECEIVE, kind));
  if (unknown.length) {
    throw new Unusable(`PLUGIN_RECEIVE may name ${Object.keys(RECEIVE).join(', ')}, not '${unknown.join(', ')}'`);
  }
  const kinds = Object.entries(RECEIVE).map(([kind, parameter]) => [parameter, String(wanted.includes(kind))]);
  const filter = Object.entries(FILTER).map(([name, parameter]) => [parameter, get(name)]);
  return [...kinds, ...filter.filter(([, value]) => value)];
}
