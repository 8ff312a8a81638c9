/* What the client does without a server, or with a wrong one. */
const DeviceHive = require('devicehive');
const ApiMap = require('devicehive/src/controllers/transportResolvers/ApiMap');
const BaseModel = require('devicehive/src/models/BaseModel');
const Transport = require('devicehive/src/transports/base/Transport');
const { refused, same, until } = require('./checks');

const NOWHERE = '127.0.0.1:1'; // nobody listens on that port

async function library() {
  abstract();
  await refused('You are trying to use unsupported transport type.\nPlease, use one of provided in documentation.', async () => new DeviceHive({ mainServiceURL: 'ftp://x' }));
  await refused('No API selected.\nPlease, choose one according to documentation.', async () => ApiMap.build('http', 'nothing'));
  const credentials = { accessToken: 'x', reconnectionAttempts: 2, reconnectionInterval: 5 };
  const overHttp = connecting(`http://${NOWHERE}`, credentials);
  await until(() => overHttp.errors.length === 2, 'the attempts over HTTP');
  same(overHttp.errors, ['Reconnection attempt number 1 is failed', 'Reconnection attempt number 2 is failed']);
  same([overHttp.strategy.reconnectionAttempts, overHttp.strategy.reconnectionInterval], [2, 5]);
  const overWebSocket = connecting(`ws://${NOWHERE}`, credentials);
  await until(() => overWebSocket.errors.length > 0, 'the refusal over WebSocket');
  same(overWebSocket.errors[0].startsWith('Error using WebSocket.\nPlease, check server URL or try again later.\n'), true);
}

/** Its promise is never settled. */
function connecting(mainServiceURL, credentials) {
  const hive = new DeviceHive({ mainServiceURL });
  hive.errors = [];
  hive.on(DeviceHive.ERROR_EVENT, (error) => hive.errors.push(error));
  hive.connect(credentials);
  return hive;
}

/** What is left to the classes below says so. */
function abstract() {
  const { warn } = console;
  const warned = [];
  console.warn = (text) => warned.push(/"(.*)"/.exec(text)[1]);
  new BaseModel().toObject();
  const transport = new Transport();
  ['connect', 'authenticate', 'send', 'disconnect'].forEach((name) => transport[name]());
  console.warn = warn;
  same(warned, ['toObject', 'connect', 'authenticate', 'send', 'disconnect']);
}

module.exports = { library };
