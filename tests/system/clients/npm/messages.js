/* Notifications and commands: inserted, read, listed with every filter, polled, waited for. */
const DeviceHive = require('devicehive');
const { refused, same, unsupported } = require('./checks');

const { Command, Device, Notification } = DeviceHive.models;
const {
  CommandGetQuery, CommandListQuery, CommandPollManyQuery, CommandPollQuery, CommandWaitQuery, NotificationListQuery,
  NotificationPollManyQuery, NotificationPollQuery,
} = DeviceHive.models.query;
const WAIT = 20;

/** Timestamps as the API writes them, seconds after a minute ago. */
async function clock(api) {
  const start = new Date(`${(await api.info.getServerInfo()).serverTimestamp}Z`).getTime() - 60000;
  return (second) => new Date(start + second * 1000).toISOString().replace('Z', '');
}

async function messages(world) {
  const { api, prefix } = world;
  const device = { id: `${prefix}-messages`, name: 'messages', networkId: world.networks[1], deviceTypeId: world.types[1] };
  await api.device.add(new Device(device));
  const [added] = await api.notification.list(new NotificationListQuery({ deviceId: device.id }));
  same([added.notification, added.parameters], ['$device-add', { ...device, data: null, isBlocked: false }]);
  const at = await clock(api);
  const place = { deviceId: device.id, networkId: device.networkId, deviceTypeId: device.deviceTypeId };
  await notifications(world, place, at);
  await commands(world, place, at);
  await answers(world, place);
  await (world.http ? polls(world, place, at) : noPolls(world, place));
  await api.device.delete(device.id);
}

async function notifications(world, place, at) {
  const api = world.api.notification;
  const { deviceId } = place;
  const sent = [];
  for (const [i, name] of [...'abaab'].entries()) {
    const body = { notification: name, timestamp: at(i + 1), parameters: { n: i + 1, deep: [1.5, 'ü', null] } };
    const made = await api.insert(deviceId, new Notification({ ...body, id: 5, deviceId: 'ignored', networkId: 7, deviceTypeId: 7 }));
    same(made, { id: made.id, timestamp: at(i + 1) });
    sent.push({ id: made.id, ...body, ...place });
  }
  same(await api.get(deviceId, sent[1].id), sent[1]);
  const found = await api.list(new NotificationListQuery({ deviceId, notification: 'b', sortField: 'timestamp', sortOrder: 'ASC' }));
  same(found, [sent[1], sent[4]]);
  same(Object.keys(found[0]), ['id', 'notification', 'deviceId', 'networkId', 'deviceTypeId', 'timestamp', 'parameters']);
  const list = async (options) => (await api.list(new NotificationListQuery({ deviceId, end: at(30), ...options }))).map((each) => each.parameters.n);
  same(await list({}), world.http ? [5, 4, 3, 2, 1] : [1, 2, 3, 4, 5]);
  await windows(list, at, world.http);
  same(await list({ notification: 'A' }), []);
  same((await list({ sortField: 'notification', take: 2 })).sort(), [2, 5]);
  await refused('Requested notification not found', () => api.get(deviceId, 1));
  await refused("'parameters' must be JSON Object!", () => api.insert(deviceId, new Notification({ notification: 'x', parameters: [] })));
  await refused('Invalid request parameters', () => api.insert(deviceId, new Notification({ parameters: {} })));
  const missing = `Device with such deviceId = ${deviceId}x not found`;
  await refused(missing, () => api.insert(`${deviceId}x`, new Notification({ notification: 'x' })));
  await refused(missing, () => api.get(`${deviceId}x`, 1));
}

/** start, end, sortOrder, take, skip: of notifications and commands numbered 1 to 5 at these seconds. */
async function windows(list, at, http) {
  const ascending = { sortField: 'timestamp', sortOrder: 'ASC' };
  same(await list(ascending), [1, 2, 3, 4, 5]);
  same(await list({ sortField: 'timestamp', sortOrder: 'DESC', take: 2, skip: 1 }), [4, 3]);
  same(await list({ ...ascending, take: 2, skip: 1 }), [2, 3]);
  same(await list({ ...ascending, start: at(1), end: at(5) }), [2, 3, 4]);
  same(await list({ ...ascending, start: `${at(3)}Z` }), [4, 5]);
  same(await list({ start: at(3), end: at(3) }), []);
  same(await list({ take: 0 }), []);
  for (const options of [{ sortOrder: 'up' }, { take: -1 }, { skip: -1 }]) {
    await refused('Invalid request parameters', () => list({ ...ascending, ...options }));
  }
  await refused(http ? 'Unparseable timestamp' : 'Malformed Json received.', () => list({ start: 'yesterday' }));
}

async function commands(world, place, at) {
  const api = world.api.command;
  const { deviceId } = place;
  const userId = (await world.api.user.getCurrent()).id;
  const sent = [];
  for (const [i, name] of [...'abaab'].entries()) {
    const body = { command: name, timestamp: at(i + 1), parameters: { n: i + 1 }, lifetime: 600 + i, status: `s${i % 2}`, result: { r: i } };
    const made = await api.insert(deviceId, new Command({ ...body, id: 5, userId: 99, lastUpdated: at(9), ...place, networkId: 7 }));
    same(made, { id: made.id, timestamp: at(i + 1), lastUpdated: at(i + 1), userId });
    sent.push({ ...made, ...body, ...place });
  }
  same(await api.get(deviceId, sent[1].id), sent[1]);
  const keys = ['id', 'command', 'timestamp', 'lastUpdated', 'userId', 'deviceId', 'networkId', 'deviceTypeId', 'parameters', 'lifetime', 'status', 'result'];
  same(Object.keys(await api.get(deviceId, sent[1].id, new CommandGetQuery())), keys);
  const list = async (options) => (await api.list(new CommandListQuery({ deviceId, end: at(30), ...options }))).map((each) => each.parameters.n);
  same(await list({}), world.http ? [5, 4, 3, 2, 1] : [1, 2, 3, 4, 5]);
  await windows(list, at, world.http);
  const ascending = { sortField: 'timestamp', sortOrder: 'ASC' };
  same(await list({ ...ascending, command: 'a' }), [1, 3, 4]);
  same(await list({ ...ascending, status: 's1' }), [2, 4]);
  same(await list({ ...ascending, command: 'b', status: 's1' }), [2]);
  same((await list({ sortField: 'status', take: 3, sortOrder: 'ASC' })).sort(), [1, 3, 5]);
  same((await list({ sortField: 'command', take: 2 })).sort(), [2, 5]);
  await refused('Command with id = 1 not found', () => api.get(deviceId, 1));
  await refused('Command with id = 1 not found', () => api.update(new Command({ id: 1, deviceId, status: 'x' })));
  await refused(`Device with such deviceId = ${deviceId}x not found`, () => api.insert(`${deviceId}x`, new Command({ command: 'x' })));
}

async function answers(world, { deviceId }) {
  const api = world.api.command;
  const { id } = await api.insert(deviceId, new Command({ command: 'answer', parameters: { a: 1 } }));
  const before = await api.get(deviceId, id);
  const updated = new CommandGetQuery({ returnUpdatedCommands: true });
  // Over WebSocket the server does not read that.
  if (world.http) await refused(`Command with id = ${id} not found`, () => api.get(deviceId, id, updated));
  else same(await api.get(deviceId, id, updated), before);
  same(await api.update(new Command({ ...before, status: 'done', result: { b: 2 } })), world.nothing);
  const after = await api.get(deviceId, id, updated);
  same(after, { ...before, lastUpdated: after.lastUpdated, status: 'done', result: { b: 2 } });
  same(after.lastUpdated > before.lastUpdated, true);
  await api.update(new Command({ id, deviceId, status: 'again' }));
  const again = await api.get(deviceId, id, updated);
  same([again.status, again.result], ['again', { b: 2 }]);
}

async function polls(world, place, at) {
  const { api } = world;
  const { deviceId, networkId, deviceTypeId } = place;
  const numbers = (found) => found.map((each) => each.parameters.n);
  const since = { deviceId, timestamp: at(1), waitTimeout: WAIT };
  same(numbers(await api.notification.poll(new NotificationPollQuery({ ...since, names: 'b' }))), [2, 5]);
  same(numbers(await api.command.poll(new CommandPollQuery({ ...since, names: 'a', limit: 1 }))), [3]);
  same(numbers(await api.command.poll(new CommandPollQuery({ ...since, names: 'a,b', limit: 0 }))), [2, 3, 4, 5]);
  const answered = await api.command.poll(new CommandPollQuery({ ...since, returnUpdatedCommands: true }));
  same(answered.map((each) => [each.command, each.status]), [['answer', 'again']]);
  const scope = { deviceIds: 'ignored', networkIds: networkId, deviceTypeIds: deviceTypeId, names: 'b', timestamp: at(1), waitTimeout: WAIT };
  same(numbers(await api.notification.pollMany(new NotificationPollManyQuery(scope))), [2, 5]);
  same(numbers(await api.command.pollMany(new CommandPollManyQuery({ ...scope, limit: 1 }))), [2]);
  await live(() => api.notification.poll(new NotificationPollQuery({ deviceId, names: 'live', waitTimeout: WAIT })), 'notification', world, place);
  await live(() => api.command.poll(new CommandPollQuery({ deviceId, names: 'live', waitTimeout: WAIT })), 'command', world, place);
  const nothing = { deviceId, names: 'nothing', waitTimeout: 0 };
  same(await api.notification.poll(new NotificationPollQuery(nothing)), []);
  same(await api.command.poll(new CommandPollQuery(nothing)), []);
  await refused(/60 seconds/, () => api.command.poll(new CommandPollQuery({ deviceId, waitTimeout: 61 })));
  await refused('Networks with such networkIds wasn\'t found: {[1000000000000]}', () => api.notification.pollMany(new NotificationPollManyQuery({ networkIds: 1e12 })));
  await waits(world, place);
}

/** A poll without a timestamp gives what comes while it is open, so it is sent until the poll has it. */
async function live(poll, kind, world, { deviceId }) {
  const sent = [];
  let found = null;
  const polling = poll().then((answer) => { found = answer; });
  while (found === null) {
    const Message = kind === 'command' ? Command : Notification;
    const made = world.api[kind].insert(deviceId, new Message({ [kind]: 'live', parameters: { n: sent.length } }));
    sent.push((await Promise.race([made, polling.then(() => made)])).id);
  }
  await polling;
  same([found.length > 0, found.filter((each) => !sent.includes(each.id))], [true, []]);
}

async function waits(world, { deviceId }) {
  const api = world.api.command;
  const { id } = await api.insert(deviceId, new Command({ command: 'wait' }));
  same(await api.wait(deviceId, id, new CommandWaitQuery({ waitTimeout: 0 })), '');
  same(await api.wait(deviceId, 1, new CommandWaitQuery({ waitTimeout: 0 })), '');
  const waiting = api.wait(deviceId, id, new CommandWaitQuery({ waitTimeout: WAIT }));
  await api.update(new Command({ id, deviceId, status: 'done' }));
  const waited = await waiting;
  same([waited.id, waited.status], [id, 'done']);
  same((await api.wait(deviceId, id)).status, 'done');
}

async function noPolls(world, { deviceId }) {
  const { api } = world;
  const { id } = await api.command.insert(deviceId, new Command({ command: 'x' }));
  const options = { deviceId, names: ['x'], timestamp: '2026-01-01', returnUpdatedCommands: true, waitTimeout: 1, limit: 1 };
  const many = { ...options, deviceIds: [], networkIds: [1], deviceTypeIds: [1] };
  await unsupported('pollNotification', () => api.notification.poll(new NotificationPollQuery(options)));
  await unsupported('pollManyNotification', () => api.notification.pollMany(new NotificationPollManyQuery(many)));
  await unsupported('pollCommand', () => api.command.poll(new CommandPollQuery(options)));
  await unsupported('pollManyCommand', () => api.command.pollMany(new CommandPollManyQuery(many)));
  await unsupported('waitCommand', () => api.command.wait(deviceId, id, new CommandWaitQuery({ waitTimeout: 1 })));
}

module.exports = { messages };
