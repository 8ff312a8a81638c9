// The useful part: signature, repetition, giving up.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { afterEach, beforeEach, test } from 'node:test';

import { ToWebhook } from '../main.js';
import { Webhook, signature, verify } from '../webhook.js';
import { Rest } from './scripted.js';

const SECRET = 'sixteen characters at least';
let receiver;

beforeEach(async () => (receiver = await new Rest().start()));
afterEach(() => receiver.stop());

const webhook = (options) => new Webhook({ url: `${receiver.url}/hook`, secret: SECRET, pause: 5, ...options });

test('the signature is known', () => {
  // printf '1.{}' | openssl dgst -sha256 -hmac k
  assert.equal(signature('k', '{}', 1), 't=1,v1=3dd49b2593d0f9a349e9e71c4bde3e2b862c2be4003fe9b4ba81332029310158');
});

test('only what the secret signed lately is verified', () => {
  const now = Math.floor(Date.now() / 1000);
  assert.ok(verify(SECRET, signature(SECRET, '{"ü":1}'), '{"ü":1}'));
  assert.ok(!verify(SECRET, signature(SECRET, '{}'), '{ }'));
  assert.ok(!verify(SECRET, signature('another', '{}'), '{}'));
  assert.ok(!verify(SECRET, signature(SECRET, '{}', now - 301), '{}'));
  for (const header of ['', 't=,v1=', `t=${now},v1=`, undefined]) assert.ok(!verify(SECRET, header, '{}'));
});

test('posts with key and signature, again until it is taken', async () => {
  receiver.answers['/hook'] = [500, {}];
  const posting = webhook().post('a/b', { x: 'ü' });
  await receiver.asked.take();
  await receiver.asked.take();
  receiver.answers['/hook'] = [204, null];
  await posting;
  assert.equal(receiver.requests.length, 3);
  for (const { headers, body } of receiver.requests) {
    assert.deepEqual(body, { x: 'ü' });
    assert.equal(headers['x-message-key'], 'a/b');
    assert.ok(verify(SECRET, headers['x-signature'], JSON.stringify(body)));
  }
});

test('gives up, and follows no redirection', async () => {
  receiver.answers['/hook'] = [302, {}];
  await assert.rejects(webhook({ attempts: 2 }).post('a', {}), /answered with 302, 2 times/);
  assert.equal(receiver.requests.length, 2);
});

test('gives up on a receiver that is not there', async () => {
  receiver.stop();
  await assert.rejects(webhook({ attempts: 2 }).post('a', {}), /ECONNREFUSED.*, 2 times/);
});

test('each kind has its key', async () => {
  receiver.answers['/hook'] = [200, {}];
  const handler = new ToWebhook(webhook());
  const message = { id: 7, deviceId: 'd/ü', lastUpdated: new Date(0) };
  await handler.onNotification(message);
  await handler.onCommand(message);
  await handler.onCommandUpdate(message);
  assert.deepEqual(receiver.requests.map(({ headers }) => headers['x-message-key']), [
    'notification/d%2F%C3%BC/7', 'command/d%2F%C3%BC/7', 'update/d%2F%C3%BC/7/1970-01-01T00%3A00%3A00.000Z',
  ]);
  assert.equal(receiver.requests[0].body.kind, 'notification');
});

for (const env of [{}, { WEBHOOK_URL: 'nonsense' }, { WEBHOOK_URL: 'http://x/', WEBHOOK_SECRET: 'short' }]) {
  test(`bad settings end it with 2: ${Object.values(env)}`, () => {
    assert.equal(spawnSync(process.execPath, ['main.js'], { env }).status, 2);
  });
}
