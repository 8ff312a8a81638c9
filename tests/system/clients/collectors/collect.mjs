// An author's plugin on the Node.js template, whose folder is the argument: one line of JSON on stdout for each callback.
// HOLD: the name of messages whose callback never returns.

const { Handler, run } = await import(`${process.argv[2]}/skep-plugin/plugin.js`);

class Collector extends Handler {
  onNotification = (it) => collect('notification', it);
  onCommand = (it) => collect('command', it);
  onCommandUpdate = (it) => collect('update', it);
}

async function collect(kind, it) {
  process.stdout.write(`${JSON.stringify([kind, it.deviceId, it.name, it.id])}\n`);
  if (it.name === process.env.HOLD) await new Promise(() => {});
}

process.exit(await run(new Collector(), 'collector'));
