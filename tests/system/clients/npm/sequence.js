/* What the client sends, in order, until it has a device and a subscription. */
const DeviceHive = require('devicehive');
const WebSocket = require('ws');
const { same } = require('./checks');

const { Device } = DeviceHive.models;
const { NotificationPollQuery } = DeviceHive.models.query;
const RIGHTS = { actions: [0], networkIds: ['*'], deviceTypeIds: ['*'] };

async function sequence(world) {
  const id = `${world.prefix}-sequence`;
  const sent = [];
  const restore = watch(world, sent);
  const hive = await world.connect();
  await hive.device.add(new Device({ id, name: id }));
  const { subscriptionId } = await hive.notification.subscribe(new NotificationPollQuery({ deviceId: id }));
  restore();
  const userId = (await hive.user.getCurrent()).id;
  const { login, password } = world.account;
  const device = { id, name: id };
  same(sent, world.http ? [
    ['GET', '/info', undefined],
    ['POST', '/token', { login, password }],
    ['POST', '/token/create', { userId, ...RIGHTS }],
    ['PUT', `/device/${id}`, device],
    ['GET', `/device/notification/poll?deviceId=${id}`, undefined],
  ] : [
    ['token', { login, password }],
    ['authenticate', { token: sent[1][1].token }],
    ['token/create', { payload: { userId, ...RIGHTS } }],
    ['device/save', { deviceId: id, device }],
    ['notification/subscribe', { deviceId: id }],
  ]);
  await hive.notification.unsubscribe(subscriptionId);
  await hive.device.delete(id);
  hive.disconnect();
}

function watch(world, sent) {
  const { fetch } = global;
  const { send } = WebSocket.prototype;
  global.fetch = (url, options) => {
    const path = [world.urls.mainServiceURL, world.urls.authServiceURL].reduce((rest, base) => rest.replace(base, ''), url);
    sent.push([options.method, path, options.body && JSON.parse(options.body)]);
    return fetch(url, options);
  };
  WebSocket.prototype.send = function noted(text) {
    const { action, requestId, ...rest } = JSON.parse(text);
    sent.push([action, rest]);
    return send.call(this, text);
  };
  return () => {
    global.fetch = fetch;
    WebSocket.prototype.send = send;
  };
}

module.exports = { sequence };
