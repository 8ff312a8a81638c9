// The connection part, against a scripted server.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';

import { Handler, PAUSE, Plugin, Unusable } from '../skep-plugin/plugin.js';
import { Bus, Queue, Rest, TOPIC, command, expiry, notification } from './scripted.js';

PAUSE.first = 10;
let rest, bus, folder, running;

/** hold: device -> promise its callbacks wait for. fail: how many callbacks throw first. */
class Collector extends Handler {
  seen = new Queue();
  began = [];
  begun = new Queue();
  hold = {};
  fail = 0;

  onNotification = (it) => this.#take('notification', it);
  onCommand = (it) => this.#take('command', it);
  onCommandUpdate = (it) => this.#take('update', it);

  async onGap(gap) {
    this.seen.put(['gap', gap]);
  }

  async #take(kind, message) {
    this.began.push(message.id);
    this.begun.put(message.id);
    if (this.fail-- > 0) throw new Error('not today');
    await this.hold[message.deviceId];
    this.seen.put([kind, message]);
  }
}

function gate() {
  let open;
  const promise = new Promise((resolve) => (open = resolve));
  return Object.assign(promise, { open });
}

/** A plugin that runs. */
function started(settings = {}) {
  rest.endpoint = bus.url;
  const handler = new Collector();
  const plugin = new Plugin(handler, {
    url: rest.url, login: 'l', password: 'p', name: 'plugin', query: [['returnNotifications', 'true']], group: 'main',
    state: join(folder, 'state.json'), topic: '', refreshToken: '', endpoint: '', parallel: 32, ...settings,
  });
  const it = { handler, plugin, ended: plugin.run() };
  it.ended.catch(() => {});
  running.push(it);
  return it;
}

beforeEach(async () => {
  running = [];
  rest = await new Rest().start();
  bus = await new Bus().start();
  folder = mkdtempSync(join(tmpdir(), 'plugin-'));
});

afterEach(async () => {
  for (const { plugin } of running) plugin.stop();
  bus.stop();
  rest.stop();
  await Promise.allSettled(running.map(({ ended }) => ended));
  rmSync(folder, { recursive: true });
});

test('registers once with its filter and keeps the state', async () => {
  const query = [['returnNotifications', 'true'], ['deviceId', 'a b/ü']];
  const first = started({ query });
  await (await bus.peer()).letIn();
  assert.deepEqual(rest.paths(), ['/token', '/plugin', '/token/refresh']);
  const [, registered, refreshed] = rest.requests;
  assert.deepEqual([registered.query, registered.body], [query, { name: 'plugin' }]);
  assert.equal(registered.headers.authorization, 'Bearer user-access');
  assert.deepEqual(refreshed.body, { refreshToken: 'plugin-refresh' });
  assert.deepEqual(readdirSync(folder), ['state.json']);
  assert.equal(statSync(join(folder, 'state.json')).mode & 0o777, 0o600);
  first.plugin.stop();
  started({ query });
  await (await bus.peer()).letIn();
  assert.deepEqual(rest.paths().slice(3), ['/token/refresh']);
});

test('takes a token instead', async () => {
  started({ topic: TOPIC, refreshToken: 'given', endpoint: bus.url, login: '' });
  await (await bus.peer()).letIn();
  assert.deepEqual(rest.requests.map(({ path, body }) => [path, body]), [['/token/refresh', { refreshToken: 'given' }]]);
  assert.deepEqual(readdirSync(folder), []);
});

for (const [path, answer, said] of [
  ['/token', [401, { message: 'wrong password' }], '/token is refused with 401: wrong password'],
  ['/plugin', [403, { message: 'nothing you may see' }], '/plugin is refused with 403: nothing you may see'],
  ['/token/refresh', [401, {}], '/token/refresh is refused with 401: {}'],
]) {
  test(`says why it is refused: ${path}`, async () => {
    rest.answers[path] = answer;
    await assert.rejects(started().ended, (error) => error instanceof Unusable && error.message.startsWith(said));
  });
}

test('another filter is not passed over', async () => {
  started({ query: [['names', 'a']] });
  await (await bus.peer()).letIn();
  await assert.rejects(started({ query: [['names', 'b']] }).ended, /filter in the environment is not the one/);
});

test('a state file that is broken is not passed over', async () => {
  writeFileSync(join(folder, 'state.json'), '{}');
  await assert.rejects(started().ended, /state.json can't be read/);
});

test('typed callbacks and confirmation', async () => {
  const { handler } = started();
  const peer = await bus.peer();
  await peer.letIn();
  assert.deepEqual(peer.subscription, { t: [TOPIC], sg: 'main', ack: true });
  peer.push(notification(7, 'd1', { celsius: 21.5 }), 0);
  peer.push(command(8), 1);
  peer.push(command(8, 'd1', true), 2);
  const common = { deviceId: 'd1', networkId: 1, deviceTypeId: 1, timestamp: new Date('2018-05-25T10:00:00.123Z') };
  assert.deepEqual(await handler.seen.take(), [
    'notification', { id: 7, name: 'temperature', ...common, parameters: { celsius: 21.5 } },
  ]);
  const sent = { id: 8, name: 'open', ...common, parameters: null, userId: 1, lifetime: null };
  assert.deepEqual(await handler.seen.take(), [
    'command', { ...sent, lastUpdated: null, status: null, result: null, isUpdate: false },
  ]);
  const updated = { lastUpdated: new Date('2018-05-25T10:00:01Z'), status: 'done', result: { ok: true }, isUpdate: true };
  assert.deepEqual(await handler.seen.take(), ['update', { ...sent, ...updated }]);
  await peer.confirmed(2);
});

test("confirms only what is done and keeps each device's order", async () => {
  const { handler } = started();
  handler.hold.slow = gate();
  const peer = await bus.peer();
  await peer.letIn();
  ['fast', 'slow', 'slow', 'fast'].forEach((device, offset) => peer.push(notification(offset, device), offset));
  assert.deepEqual([(await handler.seen.take())[1].id, (await handler.seen.take())[1].id], [0, 3]);
  await peer.confirmed(0);
  // 3 is done, but 1 is not; 2 has not begun, for it is of the same device.
  assert.deepEqual(handler.began.toSorted(), [0, 1, 3]);
  handler.hold.slow.open();
  assert.deepEqual([(await handler.seen.take())[1].id, (await handler.seen.take())[1].id], [1, 2]);
  await peer.confirmed(3);
});

test('no more at a time than asked for', async () => {
  const { handler } = started({ parallel: 2 });
  handler.hold = { a: gate(), b: gate() };
  const peer = await bus.peer();
  await peer.letIn();
  ['a', 'b', 'c'].forEach((device, offset) => peer.push(notification(offset, device), offset));
  await peer.push({ a: 99 }, 0, 1);
  await peer.confirmed(0, 1); // Everything before was received.
  assert.deepEqual(handler.began, [0, 1]);
  handler.hold.b.open();
  assert.equal((await handler.seen.take())[1].id, 1);
  assert.equal((await handler.seen.take())[1].id, 2);
  handler.hold.a.open();
  await peer.confirmed(2);
});

test('without the extension it does all that it received', async () => {
  bus.stop();
  bus = await new Bus().start(false);
  const { handler, plugin, ended } = started({ group: '' });
  const peer = await bus.peer();
  await peer.letIn();
  assert.deepEqual(peer.subscription, { t: [TOPIC] });
  handler.hold.d1 = gate();
  peer.push(notification(1), 0);
  peer.push(notification(2), 1);
  peer.socket.ping();
  await once(peer.socket, 'pong');
  plugin.stop();
  // Nothing but this comes from it.
  const unsubscribe = await peer.expect('topic', 'unsubscribe');
  peer.push(notification(3), 2);
  peer.reply(unsubscribe);
  for (let round = 0; round < 2; round++) {
    peer.socket.ping(); // It has read the reply, and gone on.
    await once(peer.socket, 'pong');
  }
  handler.hold.d1.open();
  await ended;
  assert.deepEqual(handler.began, [1, 2, 3]);
});

test('pings are answered with all that a server sends ahead in hand', async () => {
  const { handler } = started();
  handler.hold.d1 = gate();
  const peer = await bus.peer();
  await peer.letIn();
  for (let offset = 0; offset < 1000; offset++) peer.push(notification(offset, 'd1', 'x'.repeat(5000)), offset);
  peer.socket.ping();
  await once(peer.socket, 'pong', { signal: AbortSignal.timeout(30_000) });
  handler.hold.d1.open();
  await peer.confirmed(999);
});

test('what it cannot read is passed over and confirmed', async () => {
  const { handler } = started();
  const peer = await bus.peer();
  await peer.letIn();
  peer.push({ a: 99 }, 0);
  await peer.confirmed(0);
  peer.push(notification(1), 1);
  assert.equal((await handler.seen.take())[1].id, 1);
});

test('gaps are told', async () => {
  const { handler } = started();
  const peer = await bus.peer();
  await peer.letIn();
  peer.socket.send('{"t": "notif", "s": 1, "p": {"part": 3, "gap": [10, 25]}, "st": "x"}');
  assert.deepEqual(await handler.seen.take(), ['gap', { partition: 3, first: 10, next: 25 }]);
});

test('a fresh token comes before the old one ends', async () => {
  rest.life = 5000;
  started();
  const peer = await bus.peer();
  const first = await peer.letIn();
  const again = await peer.expect('plugin', 'authenticate');
  assert.ok(Date.now() < expiry(first) && expiry(first) < expiry(again.p.token));
  peer.reply(again);
  peer.push(notification(1), 0);
  await peer.confirmed(0);
});

test('reconnects when the connection is lost or refused', async () => {
  started();
  let peer = await bus.peer();
  await peer.letIn();
  peer.socket.terminate();
  peer = await bus.peer();
  peer.reply(await peer.expect('health'), { ack: true });
  peer.reply(await peer.expect('plugin', 'authenticate'), { m: 'Plugin is disabled' }, true);
  peer = await bus.peer();
  await peer.letIn();
  peer.socket.close(1013);
  await (await bus.peer()).letIn();
  assert.equal(rest.paths().filter((path) => path === '/plugin').length, 1);
});

test('waits for a server that is away', async () => {
  rest.answers['/token'] = [503, {}];
  started();
  await rest.asked.take();
  await rest.asked.take();
  delete rest.answers['/token'];
  await (await bus.peer()).letIn();
});

test('a failed callback ends the connection and is not confirmed', async () => {
  const { handler } = started();
  handler.hold.slow = gate();
  let peer = await bus.peer();
  await peer.letIn();
  peer.push(notification(1, 'slow'), 0);
  assert.equal(await handler.begun.take(), 1);
  handler.fail = 1;
  peer.push(notification(2), 1);
  peer.push(notification(3), 2);
  assert.equal(await handler.begun.take(), 2);
  handler.hold.slow.open();
  // What was under way is finished and confirmed; 3 is not begun.
  await peer.confirmed(0);
  await peer.closed;
  peer = await bus.peer();
  await peer.letIn();
  peer.push(notification(2), 1);
  await peer.confirmed(1);
  assert.deepEqual(handler.began, [1, 2, 2]);
});

test('stop finishes and confirms what is under way', async () => {
  const { handler, plugin, ended } = started();
  const peer = await bus.peer();
  await peer.letIn();
  peer.push(notification(1), 0);
  await peer.confirmed(0);
  handler.hold.d1 = gate();
  peer.push(notification(2), 1);
  peer.push(notification(3), 2);
  peer.push({ a: 99 }, 0, 1);
  await peer.confirmed(0, 1); // Everything before was received.
  plugin.stop();
  handler.hold.d1.open();
  // The third, which had not begun, comes again at the next start.
  await peer.confirmed(1);
  peer.reply(await peer.expect('topic', 'unsubscribe'));
  await ended;
  assert.equal(await peer.closed, 1000);
  assert.deepEqual(handler.began, [1, 2]);
});

test('stop while it waits for the server', async () => {
  const { plugin, ended } = started();
  await bus.peer();
  plugin.stop();
  await ended;
});

const SCRIPT = "import { Handler, run } from './skep-plugin/plugin.js'; process.exit(await run(new Handler(), 'test'));";
const NODE = [process.execPath, ['--input-type=module', '-e', SCRIPT]];

for (const [environment, said] of [
  [{ PLUGIN_RECEIVE: 'everything' }, 'PLUGIN_RECEIVE may name notifications, commands, updates'],
  [{ PLUGIN_PARALLEL: 'many' }, 'PLUGIN_PARALLEL must be a whole number'],
  [{ SKEP_PASSWORD_FILE: '/nowhere' }, "SKEP_PASSWORD_FILE can't be read"],
  [{}, 'SKEP_LOGIN and SKEP_PASSWORD'],
]) {
  test(`bad settings end it with 2: ${Object.keys(environment)}`, () => {
    const state = { PLUGIN_STATE: join(folder, 'state.json') };
    const done = spawnSync(...NODE, { env: { ...state, ...environment }, encoding: 'utf8' });
    assert.equal(done.status, 2);
    assert.ok(done.stderr.includes(said), done.stderr);
  });
}

test('SIGTERM stops it', async () => {
  rest.answers['/token'] = [503, {}];
  const env = { SKEP_URL: rest.url, SKEP_LOGIN: 'l', SKEP_PASSWORD: 'p', PLUGIN_STATE: join(folder, 'state.json') };
  const child = spawn(...NODE, { env });
  await rest.asked.take();
  child.kill('SIGTERM');
  assert.deepEqual(await once(child, 'exit'), [0, null]);
});
