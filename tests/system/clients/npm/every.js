/*
 * Everything the unchanged npm client can do.
 *
 *   node every.js MAIN_URL AUTH_URL PLUGIN_URL LOGIN PASSWORD REFRESH_TOKEN PREFIX
 *
 * Prints one JSON object: differences (what did not come out as it must), unused (of the client's methods, properties
 * and fields of queries and models), faults (what shows a mistake of the client itself). Exits 1 with the reason on
 * stderr where the client fails.
 */
const recorder = require('./recorder');
const checks = require('./checks');
const { containers, devices, server } = require('./entities');
const { library } = require('./library');
const { messages } = require('./messages');
const { models } = require('./models');
const { plugins } = require('./plugins');
const { sequence } = require('./sequence');
const { subscriptions } = require('./subscriptions');
const { tokens, users } = require('./users');
const World = require('./world');

async function main(mainServiceURL, authServiceURL, pluginServiceURL, login, password, refreshToken, prefix) {
  const world = new World({ mainServiceURL, authServiceURL, pluginServiceURL, login, password, prefix });
  models();
  await library();
  const api = await world.connect({ refreshToken });
  await world.build(api);
  const sections = [
    devices, (w) => containers(w, 'network'), (w) => containers(w, 'deviceType'), server, messages,
    (w) => subscriptions(w, { refreshToken }), (w) => plugins(w, { refreshToken }), sequence, users, tokens,
  ];
  // The other way round over WebSocket, so that two programs do not want passwords hashed at the same time.
  if (!world.http) sections.reverse();
  for (const section of sections) await section(world);
  await world.erase();
  api.disconnect();
  checks.same(api.errors, []);
  console.log(JSON.stringify({ differences: checks.differences, unused: recorder.unused(), faults: [...checks.faults].sort() }));
  process.exit(0); // polls may still be open
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error, checks.differences);
  process.exit(1);
});
