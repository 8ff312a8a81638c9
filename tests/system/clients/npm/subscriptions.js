/* Subscriptions: each gets what is its own, stored and live, and nothing else. */
const DeviceHive = require('devicehive');
const { fault, refused, same, until } = require('./checks');

const { Command, Notification } = DeviceHive.models;
const { CommandPollManyQuery, CommandPollQuery, NotificationPollManyQuery, NotificationPollQuery } = DeviceHive.models.query;
const PLACES = ['11', '12', '21', '22'];

/** [options of the query, whether it is one for many devices, which (place, name) it is to get] */
function scopes(world) {
  const { http, networks, types } = world;
  const one = (value) => (http ? value : [value]);
  return [
    [{ deviceId: world.devices['11'].id }, false, (place) => place === '11'],
    [{ deviceId: world.devices['11'].id, names: one('b') }, false, (place, name) => place === '11' && name === 'b'],
    [{ networkIds: one(networks[1]) }, true, (place) => place[0] === '1'],
    [{ deviceTypeIds: one(types[1]), names: one('a') }, true, (place, name) => place[1] === '1' && name === 'a'],
    [{ networkIds: world.many(networks[1], networks[2]), deviceTypeIds: one(types[2]) }, true, (place) => place[1] === '2'],
    [{ networkIds: one(networks[2]), deviceTypeIds: one(types[1]) }, true, (place) => place === '21'],
    [{ names: world.many('b', 'c') }, true, (place, name) => name === 'b'],
    [{}, true, () => true],
  ];
}

class Traffic {
  constructor(world, sender) {
    this.world = world;
    this.sender = sender;
    this.number = 0;
  }

  /** A notification and an answered command for each device, and of another name for the first. */
  async send(live) {
    const sent = [];
    for (const [place, name] of [...PLACES.map((each) => [each, 'a']), ['11', 'b']]) {
      this.number += 1;
      const n = this.number;
      const deviceId = this.world.devices[place].id;
      await this.notify(place, name, n);
      const { id } = await this.sender.command.insert(deviceId, new Command({ command: name, parameters: { n } }));
      await tick();
      const status = `done ${n}`;
      await this.sender.command.update(new Command({ id, deviceId, status, result: { n } }));
      await tick();
      // A stored command comes as it is now; whether a poll reads it before or after its answer nobody knows.
      const inserted = !live ? status : this.world.http ? '?' : null;
      sent.push(['notification', place, name, n, null], ['insert', place, name, n, inserted], ['update', place, name, n, status]);
    }
    return sent;
  }

  async notify(place, name, n) {
    await this.sender.notification.insert(this.world.devices[place].id, new Notification({ notification: name, parameters: { n } }));
    // A poll asks for what is later than what the one before brought: no two in one millisecond.
    await tick();
  }

  /** A timestamp that is not before anything sent so far, and before what is sent from now on. */
  async mark() {
    const now = (await this.sender.info.getServerInfo()).serverTimestamp;
    await until(async () => (await this.sender.info.getServerInfo()).serverTimestamp > now, 'the next millisecond');
    return now;
  }
}

/** What came first of each message, for each subscription. */
class Inbox {
  constructor(world, hive) {
    this.hive = hive;
    this.all = new Map();
    this.repeated = 0;
    hive.on(DeviceHive.MESSAGE_EVENT, (message) => {
      if (!message.deviceId.startsWith(world.prefix) || (message.notification || '').startsWith('$')) return;
      const { subscriptionId: id, parameters: { n } } = message;
      if (!this.all.has(id)) this.all.set(id, new Map());
      if (this.all.get(id).has(n)) this.repeated += 1;
      else this.all.get(id).set(n, message);
    });
  }

  /** What comes right behind the answer, the client names by the server's id, which it has not noted by then. */
  of(id) {
    const early = this.all.get(this.hive.strategy.subscriptionIdsMap.get(id)) || new Map();
    return [...early.values(), ...(this.all.get(id) || new Map()).values()];
  }
}

async function tick() {
  const now = Date.now();
  await until(() => Date.now() > now, 'the next millisecond');
}

async function subscriptions(world, credentials) {
  const sender = await world.connectOverWebSocket(credentials);
  const hive = await world.connect(credentials);
  const traffic = new Traffic(world, sender);
  const came = new Inbox(world, hive);
  const timestamp = await traffic.mark();
  const sent = await traffic.send(false);
  const begun = await subscribeAll(world, hive, timestamp);
  sent.push(...await traffic.send(true));
  await expect(world, begun, sent, came);
  if (world.http) await until(() => came.repeated > 0, 'an answer once more');
  fault('subscriptions of updated commands over HTTP', came.repeated > 0);
  await endAll(world, hive, begun, traffic, came);
  await refusals(world, hive);
  same(hive.errors, []);
  hive.disconnect();
  sender.disconnect();
}

async function subscribeAll(world, hive, timestamp) {
  const begun = [];
  for (const [options, isMany, wanted] of scopes(world)) {
    const OfNotifications = isMany ? NotificationPollManyQuery : NotificationPollQuery;
    const OfCommands = isMany ? CommandPollManyQuery : CommandPollQuery;
    const asked = { ...options, timestamp, waitTimeout: 20, limit: 0 };
    begun.push({ kind: 'notification', wanted, ...await hive.notification.subscribe(new OfNotifications(asked)) });
    begun.push({ kind: 'insert', wanted, ...await hive.command.subscribe(new OfCommands(asked)) });
    if (isMany) continue; // its query has no place for returnUpdatedCommands
    const updated = new OfCommands({ ...asked, returnUpdatedCommands: true });
    begun.push({ kind: 'update', wanted, ...await hive.command.subscribe(updated) });
  }
  return begun;
}

async function expect(world, begun, sent, came) {
  for (const { kind, wanted, subscriptionId } of begun) {
    const expected = sent.filter((each) => each[0] === kind && wanted(each[1], each[2])).map((each) => each.slice(1));
    await until(() => came.of(subscriptionId).length >= expected.length, `${kind} of ${wanted}`);
    const open = new Set(expected.filter((each) => each[3] === '?').map((each) => each[2]));
    const found = came.of(subscriptionId).map((each) => {
      const status = open.has(each.parameters.n) ? '?' : each.status || null;
      return [each.deviceId.slice(-2), each.notification || each.command, each.parameters.n, status];
    });
    same(found.sort(), expected.sort());
  }
}

/** After the end of all of them nothing comes, though what is sent then has come to a new one. */
async function endAll(world, hive, begun, traffic, came) {
  for (const { kind, subscriptionId } of begun) {
    await (kind === 'notification' ? hive.notification : hive.command).unsubscribe(subscriptionId);
  }
  came.all.clear();
  const timestamp = await traffic.mark();
  await traffic.notify('11', 'a', 1000);
  const { subscriptionId } = await hive.notification.subscribe(new NotificationPollQuery({ deviceId: world.devices['11'].id, timestamp }));
  await until(() => came.of(subscriptionId).length > 0, 'the last notification');
  same([came.all.size, came.of(subscriptionId).map((each) => each.parameters.n)], [1, [1000]]);
  await hive.notification.unsubscribe(subscriptionId);
}

async function refusals(world, hive) {
  const missing = `${world.prefix}-missing`;
  const query = new NotificationPollQuery({ deviceId: missing });
  if (world.http) {
    // The client polls without looking whether it may.
    same(typeof (await hive.notification.subscribe(new NotificationPollQuery({ deviceId: world.devices['11'].id }))).subscriptionId, 'string');
    same(await hive.notification.unsubscribe('unknown'), { status: 'No such subscription' });
    return;
  }
  await refused(`Device with such deviceId = ${missing} not found`, () => hive.notification.subscribe(query));
  await refused(`Device with such deviceId = ${missing} not found`, () => hive.command.subscribe(new CommandPollQuery({ deviceId: missing })));
  const networks = new NotificationPollManyQuery({ networkIds: [1e12] });
  await refused('Networks with such networkIds wasn\'t found: {[1000000000000]}', () => hive.notification.subscribe(networks));
}

module.exports = { subscriptions };
