/* Plugins and their tokens: over HTTP, at their own services and below the main URL. */
const DeviceHive = require('devicehive');
const { refused, same, unsupported } = require('./checks');

const { Plugin, PluginToken } = DeviceHive.models;
const { PluginCountQuery, PluginListQuery, PluginRegisterQuery, PluginUpdateQuery } = DeviceHive.models.query;
const FIELDS = ['id', 'name', 'description', 'topicName', 'filter', 'status', 'subscriptionId', 'userId', 'parameters'];
const MISSING = 'Plugin is not found';

async function plugins(world, renewable) {
  if (!world.http) {
    await noPlugins(world);
    return;
  }
  await one(world, world.api, 'own');
  const { mainServiceURL } = world.urls;
  const hive = new DeviceHive({ mainServiceURL, authServiceURL: mainServiceURL, pluginServiceURL: mainServiceURL });
  await hive.connect(renewable);
  await one(world, hive, 'main');
}

async function one(world, hive, place) {
  const { prefix, networks, types } = world;
  const name = `${prefix}-${place}`;
  const everything = { networkIds: `${networks[1]},${networks[2]}`, deviceTypeIds: types[1], names: 'a,b' };
  const returned = { returnCommands: true, returnUpdatedCommands: false, returnNotifications: true };
  const entity = { name, description: 'of a test', parameters: { deep: { n: [1] } } };
  const made = await hive.plugin.register(new Plugin(entity), new PluginRegisterQuery({ ...everything, ...returned }));
  same(Object.keys(made).sort(), ['accessToken', 'proxyEndpoint', 'refreshToken', 'topicName']);
  same([made.topicName.startsWith('plugin_topic_'), made.proxyEndpoint.startsWith('ws')], [true, true]);
  const filter = `command,notification/${networks[1]},${networks[2]}/${types[1]}/*/a,b`;
  const userId = (await hive.user.getCurrent()).id;
  const whole = { ...entity, topicName: made.topicName, filter, status: 'CREATED', subscriptionId: null, userId };
  const [found] = await hive.plugin.list(new PluginListQuery({ topicName: made.topicName }));
  same(Object.keys(found).slice(0, FIELDS.length), FIELDS);
  same(pick(found), { id: found.id, ...whole });
  await refusals(hive, everything);
  const second = await registerSecond(world, hive, name);
  await lists(hive, name, userId, made.topicName);
  await updates(hive, world, whole);
  await tokens(hive, made);
  for (const topicName of [made.topicName, second]) {
    same(await hive.plugin.delete(topicName), '');
    await refused(MISSING, () => hive.plugin.delete(topicName));
  }
  same(await hive.plugin.count(new PluginCountQuery({ namePattern: `${name}%` })), { count: 0 });
}

function pick(plugin) {
  return Object.fromEntries(FIELDS.map((field) => [field, plugin[field]]));
}

/** Of one device, with what the client says where nothing is said: commands only. */
async function registerSecond(world, hive, name) {
  const deviceId = world.devices['11'].id;
  const { topicName } = await hive.plugin.register(new Plugin({ name: `${name}-2` }), new PluginRegisterQuery({ deviceId }));
  const [found] = await hive.plugin.list(new PluginListQuery({ topicName }));
  same([found.filter, found.description, found.parameters], [`command/*/*/${deviceId}/*`, null, null]);
  return topicName;
}

async function refusals(hive, everything) {
  const none = { returnCommands: false, returnUpdatedCommands: false, returnNotifications: false };
  await refused(/return/, () => hive.plugin.register(new Plugin({ name: 'none' }), new PluginRegisterQuery({ ...everything, ...none })));
  for (const bad of [{}, { name: 'ab' }, { name: 'with space' }, { name: 'good', parameters: [1] }]) {
    await refused(null, () => hive.plugin.register(new Plugin(bad)));
  }
  const missing = 'Networks with such networkIds wasn\'t found: {[1000000000000]}';
  await refused(missing, () => hive.plugin.register(new Plugin({ name: 'good' }), new PluginRegisterQuery({ networkIds: 1e12 })));
  await refused(MISSING, () => hive.plugin.update(new PluginUpdateQuery({ topicName: 'plugin_topic_x', status: 'ACTIVE' })));
}

async function lists(hive, name, userId, topicName) {
  const list = async (options) => (await hive.plugin.list(new PluginListQuery(options))).map((each) => each.name.replace(name, ''));
  const namePattern = `${name}%`;
  for (const [options, expected] of [
    [{ namePattern }, ['', '-2']], [{ name }, ['']], [{ name, namePattern: '%-2' }, []], [{ topicName }, ['']],
    [{ namePattern, status: 2 }, ['', '-2']], [{ namePattern, status: 0 }, []],
    [{ namePattern, userId }, ['', '-2']], [{ namePattern, userId: 1e12 }, []],
  ]) {
    same(await list({ ...options, sortField: 'name' }), expected);
    same(await hive.plugin.count(new PluginCountQuery(options)), { count: expected.length });
  }
  same(await list({ namePattern, sortField: 'id', sortOrder: 'DESC' }), ['-2', '']);
  same(await list({ namePattern, sortField: 'name', sortOrder: 'DESC', take: 1, skip: 1 }), ['']);
  same([(await hive.plugin.list()).length > 1, (await hive.plugin.count()).count > 1], [true, true]);
  await refused('Invalid request parameters', () => list({ sortField: 'status' }));
}

async function updates(hive, world, whole) {
  const { topicName } = whole;
  const read = async () => (await hive.plugin.list(new PluginListQuery({ topicName })))[0];
  const update = (changes) => hive.plugin.update(new PluginUpdateQuery({ topicName, ...changes }));
  const { id } = await read();
  same(await update({ name: `${whole.name}-x`, description: 'other', parameters: JSON.stringify({ n: 2 }) }), '');
  const named = { ...whole, id, name: `${whole.name}-x`, description: 'other', parameters: { n: 2 } };
  same(pick(await read()), named);
  const narrow = { networkIds: world.networks[2], deviceTypeIds: world.types[2], names: 'c' };
  await update({ ...narrow, returnCommands: false, returnUpdatedCommands: true, returnNotifications: false });
  const filter = `command_update/${world.networks[2]}/${world.types[2]}/*/c`;
  same((await read()).filter, filter);
  await update({ status: 'ACTIVE' });
  const active = await read();
  same([active.status, typeof active.subscriptionId], ['ACTIVE', 'number']);
  await refused("Plugin's subscription filter can't be updated if plugin is ACTIVE", () => update({ names: 'd' }));
  await update({ status: 'inactive', deviceId: world.devices['22'].id });
  const inactive = await read();
  same([inactive.status, inactive.subscriptionId, inactive.filter], ['INACTIVE', null, `*/*/*/${world.devices['22'].id}/*`]);
  await update({ status: 'ACTIVE' });
}

async function tokens(hive, { topicName, accessToken, refreshToken }) {
  const claims = await hive.token.authPlugin(accessToken);
  same(claims, { a: [16], e: claims.e, t: 1, tpc: topicName });
  same([typeof claims.e, claims.e.length], ['string', 23]);
  await refused('Invalid token type', () => hive.token.authPlugin(refreshToken));
  await refused('Token is not valid', () => hive.token.authPlugin('garbage'));
  same(Object.keys(await hive.token.refresh(refreshToken)), ['accessToken']);
  const expiration = Date.now() + 600000;
  const pair = await hive.token.createPluginToken(new PluginToken({ actions: ['ManagePlugin'], expiration, type: 1, topicName }));
  same(Object.keys(pair).sort(), ['accessToken', 'refreshToken']);
  const e = new Date(expiration).toISOString().replace('Z', '');
  same(await hive.token.authPlugin(pair.accessToken), { ...claims, e });
  const nowhere = new PluginToken({ topicName: 'plugin_topic_x' });
  await refused('No permisions or invalid topic name', () => hive.token.createPluginToken(nowhere));
}

async function noPlugins(world) {
  const { plugin, token } = world.api;
  const filter = { deviceId: 'x', networkIds: [1], deviceTypeIds: [1], names: ['a'] };
  const listed = { name: 'x', namePattern: 'x', topicName: 'x', status: 0, userId: 1, sortField: 'id', sortOrder: 'ASC', take: 1, skip: 1 };
  const changes = { ...filter, topicName: 'x', status: 'ACTIVE', name: 'x', description: 'x', parameters: '{}', returnCommands: true, returnUpdatedCommands: true, returnNotifications: true };
  await unsupported('registerPlugin', () => plugin.register(new Plugin({ name: 'x' }), new PluginRegisterQuery(filter)));
  await unsupported('listPlugin', () => plugin.list(new PluginListQuery(listed)));
  await unsupported('countPlugin', () => plugin.count(new PluginCountQuery(listed)));
  await unsupported('updatePlugin', () => plugin.update(new PluginUpdateQuery(changes)));
  await unsupported('deletePlugin', () => plugin.delete('x'));
  await unsupported('authenticatePlugin', () => token.authPlugin('x'));
  const asked = new PluginToken({ actions: [16], expiration: 1, type: 1, topicName: 'x' });
  await unsupported('createPluginToken', () => token.createPluginToken(asked));
}

module.exports = { plugins };
