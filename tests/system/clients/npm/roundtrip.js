/*
 * What a user of the unchanged npm client does, in two connections: one is the device, one the application.
 *
 *   node roundtrip.js MAIN_URL AUTH_URL LOGIN PASSWORD DEVICE_ID
 *
 * Exits 0 and prints one JSON object of what each side saw; exits 1 with the reason on stderr.
 */
const DeviceHive = require('devicehive');

const { Command, Device, Notification } = DeviceHive.models;
const { CommandListQuery, CommandPollQuery, CommandWaitQuery, NotificationListQuery, NotificationPollQuery } =
  DeviceHive.models.query;
const [mainServiceURL, authServiceURL, login, password, deviceId] = process.argv.slice(2);
const DEADLINE = 60000;

const seen = { notifications: new Map(), commands: new Map(), errors: [] };
const http = mainServiceURL.startsWith('http');

function connect() {
  const hive = new DeviceHive({ mainServiceURL, authServiceURL, pluginServiceURL: authServiceURL, login, password });
  hive.on('error', (error) => seen.errors.push(String(error)));
  return hive.connect();
}

async function until(condition, what, act) {
  const end = Date.now() + DEADLINE;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`no ${what}; seen ${JSON.stringify(seen.errors)}`);
    if (act) await act();
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

async function main() {
  const device = await connect();
  const app = await connect();
  await device.device.add(new Device({ id: deviceId, name: `npm ${deviceId}`, networkId: 1, deviceTypeId: 1, data: { kind: 'valve' } }));

  device.on('message', (message) => {
    if (message.notification && !message.notification.startsWith('$')) {
      seen.notifications.set(message.id, [message.id, message.notification, message.parameters]);
    }
    if (message.command && !seen.commands.has(message.id)) {
      seen.commands.set(message.id, [message.id, message.command, message.parameters]);
      const answer = new Command(Object.assign({}, message, { status: 'done', result: { position: 7 } }));
      device.command.update(answer).catch((error) => seen.errors.push(String(error)));
    }
  });
  await device.notification.subscribe(new NotificationPollQuery({ deviceId }));
  await device.command.subscribe(new CommandPollQuery({ deviceId }));

  // Over HTTP this client polls without a timestamp: only what is sent while a poll is open arrives, so send until it did.
  const sent = [];
  const notify = async () => {
    const parameters = { celsius: 21.5, place: 'Küche' };
    sent.push((await app.notification.insert(deviceId, new Notification({ notification: 'temperature', parameters }))).id);
  };
  const order = () => app.command.insert(deviceId, new Command({ command: 'valve/open', parameters: { position: 7 } }));
  await notify();
  await until(() => seen.notifications.size > 0, 'notification', http ? notify : undefined);
  let command = await order();
  await until(() => seen.commands.size > 0, 'command', http ? async () => { command = await order(); } : undefined);

  const answered = [...seen.commands.keys()][0];
  const status = async () => {
    const listed = await app.command.list(new CommandListQuery({ deviceId }));
    return listed.find((each) => each.id === answered && each.status === 'done');
  };
  const done = await until(status, 'status of the command');
  const waited = http ? await app.command.wait(deviceId, answered, new CommandWaitQuery({ waitTimeout: 5 })) : done;
  const stored = await app.notification.list(new NotificationListQuery({ deviceId, notification: 'temperature' }));
  const saved = await app.device.get(deviceId);
  console.log(JSON.stringify({
    device: [saved.id, saved.name, saved.data, saved.networkId, saved.isBlocked],
    sent,
    listed_notifications: stored.map((each) => each.id),
    listed_command: [done.id, done.status, done.result],
    waited: [waited.id, waited.status],
    notifications: [...seen.notifications.values()],
    commands: [...seen.commands.values()],
    errors: seen.errors,
    last_command: command.id,
  }));
  process.exit(0);
}

main().catch((error) => { console.error(error); process.exit(1); });
