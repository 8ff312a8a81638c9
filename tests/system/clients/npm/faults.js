/*
 * The npm client while tokens expire and the frontend hangs or is started anew.
 *
 *   node faults.js MAIN_URL AUTH_URL REFRESH_TOKEN DEVICE_ID
 *
 * Says on stdout what it waits for, goes on with the next line on stdin, and ends with a JSON object as `every.js`.
 */
const readline = require('readline');
const DeviceHive = require('devicehive');
const checks = require('./checks');
const World = require('./world');

const { Device, Notification, UserToken } = DeviceHive.models;
const { NotificationListQuery, NotificationPollQuery } = DeviceHive.models.query;
const { fault, same, until } = checks;
const LIFE = 3000; // of an access token, ms: enough to subscribe with it
const RECONNECTION = { reconnectionAttempts: -1, reconnectionInterval: 50 };
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function say(what) {
  console.log(what);
  await lines.next();
}

class Program {
  constructor(world, deviceId) {
    this.world = world;
    this.deviceId = deviceId;
    this.came = [];
  }

  async connect(credentials) {
    this.hive = new DeviceHive(this.world.urls);
    this.hive.on(DeviceHive.MESSAGE_EVENT, (message) => this.came.push(message.id));
    this.hive.on(DeviceHive.ERROR_EVENT, (error) => same(/^Reconnection attempt/.test(error), true));
    await this.hive.connect({ ...credentials, ...RECONNECTION });
  }

  async subscribe(timestamp) {
    const names = this.world.many('fault');
    await this.hive.notification.subscribe(new NotificationPollQuery({ deviceId: this.deviceId, names, timestamp }));
  }

  async insert() {
    return this.sender.notification.insert(this.deviceId, new Notification({ notification: 'fault' }));
  }

  async arrived() {
    const { id } = await this.insert();
    await until(() => this.came.includes(id), 'what was sent');
    return this.came.filter((each) => each === id).length;
  }

  /** Who asks gets a new token without knowing. */
  async expire(first) {
    const { id: userId } = await this.sender.user.getCurrent();
    const expiration = Date.now() + LIFE;
    const rights = { userId, actions: ['*'], networkIds: ['*'], deviceTypeIds: ['*'] };
    const { accessToken } = await this.sender.token.createUserToken(new UserToken({ ...rights, expiration }));
    await this.connect({ accessToken });
    await this.subscribe(first.timestamp);
    await this.arrived();
    const before = this.hive.accessToken;
    await until(() => Date.now() > expiration, 'the end of the token');
    same((await this.hive.device.get(this.deviceId)).id, this.deviceId);
    same(this.hive.accessToken === before, false);
    // Over WebSocket it has a new socket then, without the subscriptions of the old one.
    if (!this.world.http) await this.subscribe(first.timestamp);
    fault('subscriptions once a token has expired over WebSocket', await this.arrived() === 1 && !this.world.http);
  }

  async restarted(renewable) {
    if (!this.world.http) {
      await this.connect(renewable);
      const query = new NotificationListQuery({ deviceId: this.deviceId, notification: 'fault', take: 100 });
      const stored = await this.hive.notification.list(query);
      same(this.came.filter((id) => !stored.some((each) => each.id === id)), []);
      await this.subscribe(stored.map((each) => each.timestamp).sort().pop());
    }
    this.sender = await this.world.connectOverWebSocket(renewable);
    await this.arrived();
  }
}

async function main(mainServiceURL, authServiceURL, refreshToken, deviceId) {
  const world = new World({ mainServiceURL, authServiceURL, prefix: deviceId });
  const program = new Program(world, deviceId);
  const renewable = { refreshToken };
  program.sender = await world.connectOverWebSocket(renewable);
  await program.sender.device.add(new Device({ id: deviceId, name: deviceId }));
  await program.expire(await program.insert());
  await say('connected, may hang');
  await say('not disturbed by a frontend that hangs');
  await program.arrived();
  await say('may start anew');
  await program.restarted(renewable);
  console.log(JSON.stringify({ differences: checks.differences, faults: [...checks.faults] }));
  process.exit(0);
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error, checks.differences);
  process.exit(1);
});
