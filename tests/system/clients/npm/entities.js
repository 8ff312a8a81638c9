/* Devices, networks, device types, configuration, information about the server. */
const DeviceHive = require('devicehive');
const { refused, same, unsupported } = require('./checks');

const { Command, Configuration, Device, DeviceType, Network } = DeviceHive.models;
const {
  DeviceCountQuery, DeviceListQuery, DeviceTypeCountQuery, DeviceTypeDeleteQuery, DeviceTypeListQuery,
  NetworkCountQuery, NetworkDeleteQuery, NetworkListQuery,
} = DeviceHive.models.query;
const BAD = 'Invalid request parameters';

async function devices(world) {
  const { api, prefix } = world;
  same(await api.device.get(world.devices['12'].id), world.devices['12']);
  const id = `${prefix}-one`;
  same(await api.device.add(new Device({ id, name: id })), world.nothing);
  const first = { id, name: id, data: null, networkId: 1, deviceTypeId: 1, isBlocked: false };
  same(await api.device.get(id), first);
  const changed = { id, name: 'other', data: { a: [1] }, networkId: world.networks[1], deviceTypeId: world.types[2], isBlocked: true };
  await api.device.add(new Device(changed));
  same(await api.device.get(id), changed);
  await refused('Device is blocked', () => api.command.insert(id, new Command({ command: 'x' })));
  await api.device.add(new Device({ ...changed, data: null, isBlocked: false }));
  same(await api.device.get(id), { ...changed, data: null, isBlocked: false });
  await api.device.delete(id);
  const gone = `Device with such deviceId = ${id} not found`;
  await refused(gone, () => api.device.get(id));
  await refused(gone, () => api.device.delete(id));
  await refused('Device Id can only contain letters, digits and dashes.', () => api.device.add(new Device({ id: `${id}_`, name: 'x' })));
  await refused('name field cannot be null.', () => api.device.add(new Device({ id })));
  await refused(BAD, () => api.device.add(new Device({ id, name: 'x', networkId: 1e12 })));
  await refused("'parameters' must be JSON Object!", () => api.device.add(new Device({ id, name: 'x', data: [] })));
  await deviceLists(world);
}

async function deviceLists(world) {
  const { api, prefix } = world;
  const namePattern = `${prefix} device __`;
  const list = async (options) => (await api.device.list(new DeviceListQuery(options))).map((each) => each.id.slice(-2));
  const count = async (options) => (await api.device.count(new DeviceCountQuery(options))).count;
  const cases = [
    [{ namePattern }, ['11', '12', '21', '22']],
    [{ name: `${prefix} device 12` }, ['12']],
    [{ name: `${prefix} device 12`, namePattern: '%21' }, []],
    [{ namePattern: `${prefix} DEVICE __` }, []],
    [{ networkId: world.networks[2] }, ['21', '22']],
    [{ networkName: `${prefix} network 1` }, ['11', '12']],
    [{ networkId: world.networks[1], networkName: `${prefix} network 2` }, []],
    [{ networkId: 1e12 }, []],
  ];
  for (const [options, expected] of cases) {
    same(await list({ ...options, sortField: 'name' }), expected);
    same(await count(options), expected.length);
  }
  same(await list({ namePattern, sortField: 'name', sortOrder: 'DESC', take: 2, skip: 1 }), ['21', '12']);
  same(await list({ namePattern, sortField: 'name', sortOrder: 'ASC', take: 1 }), ['11']);
  same((await list({ namePattern, sortField: 'network', sortOrder: 'DESC' })).map((place) => place[0]), ['2', '2', '1', '1']);
  same(await list({ namePattern, sortField: 'name', take: 0 }), []);
  same((await api.device.list(new DeviceListQuery({ name: `${prefix} device 21` }))), [world.devices['21']]);
  same((await api.device.list()).length > 0, true);
  same((await api.device.count()).count >= 4, true);
  for (const options of [{ sortField: 'data' }, { sortOrder: 'up' }]) await refused(BAD, () => list(options));
  for (const options of [{ take: -1 }, { skip: -1 }]) await refused(null, () => list(options));
}

const KINDS = {
  network: { Model: Network, key: 'networkId', title: 'Network', List: NetworkListQuery, Count: NetworkCountQuery, Delete: NetworkDeleteQuery },
  deviceType: { Model: DeviceType, key: 'deviceTypeId', title: 'Device type', List: DeviceTypeListQuery, Count: DeviceTypeCountQuery, Delete: DeviceTypeDeleteQuery },
};

async function containers(world, noun) {
  const { Model, key, title, Delete } = KINDS[noun];
  const api = world.api[noun];
  const name = `${world.prefix} own ${noun}`;
  const { id, ...rest } = await api.insert(new Model({ name: `${name} 1`, description: 'described' }));
  same([typeof id, rest], ['number', {}]);
  same(await api.get(id), { id, name: `${name} 1`, description: 'described', devices: [] });
  const taken = `${title} cannot be created. ${title} with such name already exists`;
  await refused(taken, () => api.insert(new Model({ name: `${name} 1` })));
  for (const bad of [{}, { name: '' }, { name: 'x'.repeat(129) }]) await refused(null, () => api.insert(new Model(bad)));
  same(await api.update(new Model({ id, name: `${name} 2`, description: 'changed' })), world.nothing);
  await api.insert(new Model({ name: `${name} 3` }));
  await containerLists(api, KINDS[noun], name, id);

  const device = { id: `${world.prefix}-inside`, name: 'inside', data: { in: 1 }, isBlocked: false };
  await world.api.device.add(new Device({ ...device, [key]: id }));
  same(await api.get(id), { id, name: `${name} 2`, description: 'changed', devices: [device] });
  await refused(new RegExp(device.id), () => api.delete(new Delete({ [key]: id })));
  same(await api.delete(new Delete({ [key]: id, force: true })), world.nothing);
  await refused(`${title} with id = ${id} not found`, () => api.get(id));
  await refused(`${title} with id = ${id} not found`, () => api.update(new Model({ id, name: 'x' })));
  await refused(`Device with such deviceId = ${device.id} not found`, () => world.api.device.get(device.id));
  const [left] = await api.list(new KINDS[noun].List({ name: `${name} 3` }));
  await api.delete(new Delete({ [key]: left.id, force: false }));
}

/** There are `2` and `3`; the name of `2` was changed last. */
async function containerLists(api, { List, Count }, name, id) {
  const list = async (options) => (await api.list(new List(options))).map((each) => each.name.replace(`${name} `, ''));
  const namePattern = `${name} _`;
  for (const [options, expected] of [
    [{ namePattern }, ['2', '3']], [{ name: `${name} 2` }, ['2']], [{ name: `${name} 1` }, []],
    [{ name: `${name} 2`, namePattern: '%3' }, []],
  ]) {
    same(await list({ ...options, sortField: 'name' }), expected);
    same(await api.count(new Count(options)), { count: expected.length });
  }
  same(await list({ namePattern, sortField: 'id', sortOrder: 'DESC' }), ['3', '2']);
  same(await list({ namePattern, sortField: 'name', sortOrder: 'DESC', take: 1, skip: 1 }), ['2']);
  same(await api.list(new List({ name: `${name} 2` })), [{ id, name: `${name} 2`, description: 'changed' }]);
  same([(await api.list()).length > 0, (await api.count()).count > 1], [true, true]);
  for (const options of [{ sortField: 'description' }, { sortOrder: 'up' }]) await refused(BAD, () => list(options));
  for (const options of [{ take: -1 }, { skip: -1 }]) await refused(null, () => list(options));
}

async function server(world) {
  const { api, http } = world;
  const info = await api.info.getServerInfo();
  const url = http ? 'webSocketServerUrl' : 'restServerUrl';
  same(Object.keys(info).sort(), ['apiVersion', url, 'serverTimestamp'].sort());
  same([info.apiVersion, info.serverTimestamp.length], ['3.5.0', 23]);
  const here = http ? world.urls.mainServiceURL.replace('http', 'ws').replace('/rest', '/websocket')
    : world.urls.mainServiceURL.replace('ws', 'http').replace('/websocket', '/rest');
  same(info[url], here);
  same(Object.keys(await api.info.getClusterInfo()).sort(), ['bootstrap.servers', 'zookeeper.connect']);
  if (http) {
    const cache = await api.info.getCacheInfo();
    same([Object.keys(cache).sort(), cache.cacheStats.length > 0], [['cacheStats', 'serverTimestamp'], true]);
  } else {
    await unsupported('getCacheInfo', () => api.info.getCacheInfo());
  }
  const name = `${world.prefix} property`;
  same(await api.configuration.put(new Configuration({ name, value: 'one' })), { name, value: 'one', entityVersion: 0 });
  same(await api.configuration.put(new Configuration({ name, value: 'two' })), { name, value: 'two', entityVersion: 1 });
  same(await api.configuration.get(name), { name, value: 'two', entityVersion: 1 });
  await refused(null, () => api.configuration.put(new Configuration({ name, value: 'x'.repeat(129) })));
  same(await api.configuration.delete(name), world.nothing);
  const missing = `Requested config with name = ${name} not found in the database`;
  await refused(missing, () => api.configuration.delete(name));
  // REST answers with an empty body, which the client takes for an answer.
  if (http) same(await api.configuration.get(name), '');
  else await refused(missing, () => api.configuration.get(name));
}

module.exports = { containers, devices, server };
