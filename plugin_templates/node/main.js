// Posts what devices send to a webhook.

import { pathToFileURL } from 'node:url';

import { Handler, Unusable, get, log, number, run } from './skep-plugin/plugin.js';
import { Webhook } from './webhook.js';

/** Everything that PLUGIN_RECEIVE asks for goes to the webhook; confirmed when the receiver has it. */
export class ToWebhook extends Handler {
  #webhook;

  /** @param {Webhook} webhook */
  constructor(webhook) {
    super();
    this.#webhook = webhook;
  }

  async onNotification(notification) {
    await this.#post('notification', notification);
  }

  async onCommand(command) {
    await this.#post('command', command);
  }

  async onCommandUpdate(command) {
    // A command is updated as often as its device likes.
    await this.#post('update', command, command.lastUpdated?.toISOString());
  }

  async #post(kind, message, version) {
    const names = [kind, message.deviceId, message.id, version].filter((part) => part !== undefined);
    await this.#webhook.post(names.map(encodeURIComponent).join('/'), { kind, ...message });
  }
}

function webhook() {
  const url = get('WEBHOOK_URL');
  if (!URL.canParse(url) || !/^https?:/.test(url)) throw new Unusable('WEBHOOK_URL says where to post to');
  const secret = get('WEBHOOK_SECRET');
  if (secret.length < 16) throw new Unusable('WEBHOOK_SECRET signs what is posted; it has 16 characters or more');
  const timeout = 1000 * number('WEBHOOK_TIMEOUT', 10);
  return new Webhook({ url, secret, attempts: number('WEBHOOK_ATTEMPTS', 5), timeout });
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  try {
    process.exit(await run(new ToWebhook(webhook()), 'webhook'));
  } catch (error) {
    if (!(error instanceof Unusable)) throw error;
    log.error(error.message);
    process.exit(2);
  }
}
