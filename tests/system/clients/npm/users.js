/* Users, and tokens of every kind. */
const DeviceHive = require('devicehive');
const { refused, same, unsupported } = require('./checks');

const { Network, User, UserToken } = DeviceHive.models;
const { NetworkListQuery, UserCountQuery, UserListQuery } = DeviceHive.models.query;
const DENIED = 'Access is denied';
const FAILED = 'Invalid credentials error during attempt to authenticate. Error: ';
const PASSWORD = 'second-password';
const TAKEN = 'User with such login already exists. Please, select another one';

async function users(world) {
  const api = world.api.user;
  const login = `${world.prefix}-user`;
  const flags = { data: { a: 1 }, introReviewed: true, allDeviceTypesAvailable: false };
  const made = await api.insert(new User({ login, password: 'first-password', role: 1, status: 0, ...flags }));
  same(made, { id: made.id, lastLogin: null, ...flags });
  const whole = { id: made.id, login, role: 1, status: 0, lastLogin: null, ...flags };
  same(await api.get(made.id), { ...whole, networks: [] });
  await refused(TAKEN, () => api.insert(new User({ login, password: PASSWORD, role: 1 })));
  await refused('User role is invalid or empty', () => api.insert(new User({ login: `${login}x`, password: PASSWORD })));
  await refused('Password can contain only from 6 to 128 symbols!', () => api.insert(new User({ login: `${login}x`, password: '12345', role: 1 })));
  const size = 'Field cannot be empty. The length of login should be from 3 to 128 symbols.';
  await refused(size, () => api.insert(new User({ login: 'ab', password: PASSWORD, role: 1 })));
  await lists(world, login, whole);
  await networks(world, made.id, whole);
  await deviceTypes(world, made.id);
  // Whole entities are sent back; what can't be changed that way is ignored.
  const back = { ...whole, lastLogin: '2020-01-01T00:00:00.000', data: { b: 2 }, introReviewed: false, allDeviceTypesAvailable: true, status: 2 };
  same(await api.update(new User(back)), world.nothing);
  const { networks: none, ...saved } = await api.get(made.id);
  same([saved, none.length], [{ ...whole, data: { b: 2 }, introReviewed: false, status: 2 }, 1]);
  await refused(`${FAILED}User is locked or disabled`, () => world.connect({ login, password: 'first-password' }));
  await api.update(new User({ id: made.id, status: 0, password: PASSWORD }));
  await client(world, login, made.id);
  same(await api.delete(made.id), world.nothing);
  await refused(`User with id = ${made.id} not found`, () => api.get(made.id));
  await refused(`User with id = ${made.id} not found`, () => api.delete(made.id));
}

async function lists(world, login, whole) {
  const api = world.api.user;
  await api.insert(new User({ login: `${login}-2`, password: PASSWORD, role: 0, status: 2 }));
  const list = async (options) => (await api.list(new UserListQuery(options))).map((each) => each.login.replace(login, ''));
  const loginPattern = `${login}%`;
  for (const [options, expected] of [
    [{ loginPattern }, ['', '-2']], [{ login }, ['']], [{ login, loginPattern: `${login}-%` }, ['-2']],
    [{ loginPattern, role: 0 }, ['-2']], [{ loginPattern, role: 1 }, ['']],
    [{ loginPattern, status: 2 }, ['-2']], [{ loginPattern, status: 1 }, []],
  ]) {
    same(await list({ ...options, sortField: 'login' }), expected);
    same(await api.count(new UserCountQuery(options)), { count: expected.length });
  }
  same(await list({ loginPattern, sortField: 'id', sortOrder: 'DESC' }), ['-2', '']);
  same(await list({ loginPattern, sortField: 'login', sortOrder: 'DESC', take: 1, skip: 1 }), ['']);
  const [{ id }] = await api.list(new UserListQuery({ login: `${login}-2` }));
  same(await api.list(new UserListQuery({ login })), [whole]);
  same([(await api.list()).length > 1, (await api.count()).count > 1], [true, true]);
  for (const options of [{ sortField: 'role' }, { sortOrder: 'up' }]) await refused('Invalid request parameters', () => list(options));
  await api.delete(id);
}

async function networks(world, id, whole) {
  const api = world.api.user;
  const network = { id: world.networks[1], name: `${world.prefix} network 1`, description: 'network 1' };
  const missing = `Network with id ${network.id} for user with id ${id} was not found`;
  await refused(missing, () => api.getNetwork(id, network.id));
  same(await api.assignNetwork(id, network.id), world.nothing);
  same(await api.getNetwork(id, network.id), { network });
  same(await api.get(id), { ...whole, networks: [network] });
  same(await api.unassignNetwork(id, network.id), world.nothing);
  await refused(missing, () => api.getNetwork(id, network.id));
  await refused('Network with id = 1000000000000 not found', () => api.assignNetwork(id, 1e12));
  await api.assignNetwork(id, network.id);
}

async function deviceTypes(world, id) {
  const api = world.api.user;
  const type = { id: world.types[1], name: `${world.prefix} type 1`, description: 'type 1' };
  if (!world.http) {
    await unsupported('getUserDeviceTypes', () => api.getDeviceTypes(id));
    await unsupported('getUserDeviceType', () => api.getDeviceType(id, type.id));
    await unsupported('assignDeviceType', () => api.assignDeviceType(id, type.id));
    await unsupported('unassignDeviceType', () => api.unassignDeviceType(id, type.id));
    await unsupported('assignAllDeviceTypes', () => api.assignAllDeviceTypes(id));
    await unsupported('unassignAllDeviceTypes', () => api.unassignAllDeviceTypes(id));
    return;
  }
  same(await api.getDeviceTypes(id), []);
  same(await api.assignDeviceType(id, type.id), '');
  same(await api.getDeviceTypes(id), [type]);
  same(await api.getDeviceType(id, type.id), { deviceType: type });
  same(await api.assignAllDeviceTypes(id), '');
  same((await api.getDeviceTypes(id)).length >= 10, true);
  await refused('Cannot assign device type to user with all device types allowed', () => api.assignDeviceType(id, type.id));
  same(await api.unassignAllDeviceTypes(id), '');
  same(await api.getDeviceTypes(id), []);
  await api.assignDeviceType(id, type.id);
  same(await api.unassignDeviceType(id, type.id), '');
  await refused(`Device type with id ${type.id} for user with id ${id} not found`, () => api.getDeviceType(id, type.id));
}

async function client(world, login, id) {
  const hive = await world.connect({ login, password: PASSWORD });
  const me = await hive.user.getCurrent();
  same([me.id, me.login, me.networks.map((each) => each.id)], [id, login, [world.networks[1]]]);
  same(await hive.user.updateCurrent(new User({ data: { mine: true } })), world.nothing);
  same((await hive.user.getCurrent()).data, { mine: true });
  await refused('Admin permissions required for this action', () => hive.user.updateCurrent(new User({ role: 0 })));
  await refused(DENIED, () => hive.user.list());
  await refused(DENIED, () => hive.network.insert(new Network({ name: 'x' })));
  await refused(DENIED, () => hive.network.get(world.networks[2]));
  await refused(DENIED, () => hive.device.get(world.devices['21'].id));
  same((await hive.network.list(new NetworkListQuery())).map((each) => each.id), [world.networks[1]]);
  hive.disconnect();
}

async function tokens(world) {
  const { api, account } = world;
  const pair = await api.token.login(account.login, account.password);
  same(Object.keys(pair).sort(), ['accessToken', 'refreshToken']);
  await refused('Invalid credentials', () => api.token.login(account.login, 'not-this-one'));
  const renewed = await api.token.refresh(pair.refreshToken);
  same(Object.keys(renewed), ['accessToken']);
  await refused('Invalid token type', () => api.token.refresh(pair.accessToken));
  const me = (await api.user.getCurrent()).id;
  const narrow = { userId: me, actions: ['GetNetwork', 'ManageToken'], networkIds: [`${world.networks[1]}`], deviceTypeIds: ['*'] };
  const hour = Date.now() + 3600000;
  const made = await api.token.createUserToken(new UserToken({ ...narrow, expiration: hour, refreshExpiration: new Date(hour + 1000).toISOString() }));
  const payload = (token) => JSON.parse(Buffer.from(token.split('.')[1], 'base64').toString()).payload;
  same(payload(made.accessToken), { u: me, a: [2, 15], n: narrow.networkIds, dt: ['*'], e: hour, t: 1 });
  same(payload(made.refreshToken), { u: me, a: [2, 15], n: narrow.networkIds, dt: ['*'], e: hour + 1000, t: 0 });
  for (const credentials of [{ accessToken: made.accessToken }, { refreshToken: made.refreshToken }]) {
    const hive = await world.connect(credentials);
    same((await hive.network.list()).map((each) => each.id), [world.networks[1]]);
    await refused(DENIED, () => hive.user.getCurrent());
    hive.disconnect();
  }
  const plain = await world.connect({ accessToken: renewed.accessToken }, { autoUpdateSession: false });
  same([plain.accessToken, (await plain.user.getCurrent()).login], [renewed.accessToken, account.login]);
  plain.disconnect();
  await refused('User with id = 1000000000000 not found', () => api.token.createUserToken(new UserToken({ userId: 1e12 })));
  await refused(`${FAILED}Invalid credentials`, () => world.connect({ login: account.login, password: 'not-this-one' }));
  await refused(`${FAILED}Invalid token type`, () => world.connect({ refreshToken: pair.accessToken }));
  await refused('No authentication credentials provided.\nPlease, use credentials provided in documentation.', () => world.connect({}));
}

module.exports = { tokens, users };
