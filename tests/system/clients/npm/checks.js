/* Comparisons that go on after a difference, so that one run shows all of them. */
const { isDeepStrictEqual } = require('util');

const differences = [];
const faults = new Set();
const DEADLINE = 30000;

function line() {
  const frame = new Error().stack.split('\n').find((each) => !/Error|checks\.js/.test(each));
  return frame.replace(/.*[(/]([^/]+\.js:\d+).*/, '$1');
}

function note(at, actual, expected) {
  // Without what is undefined: an object of the client has all its fields, whatever the server sent.
  const plain = (value) => (value === undefined ? value : JSON.parse(JSON.stringify(value)));
  if (!isDeepStrictEqual(plain(actual), plain(expected))) {
    differences.push(`${at}: ${JSON.stringify(actual)} instead of ${JSON.stringify(expected)}`);
  }
}

function same(actual, expected) {
  note(line(), actual, expected);
}

/** The server must refuse with that text (the client shows no codes), one like it, or, where it is null, with any. */
async function refused(text, call) {
  const at = line();
  let answer;
  try {
    answer = await call();
  } catch (error) {
    const said = error.message || error;
    if (text instanceof RegExp) note(at, text.test(said) || said, true);
    else note(at, text === null ? null : said, text);
    return;
  }
  note(at, answer, { refused: String(text) });
}

/** What the client can't do over this transport, it says itself. */
async function unsupported(key, call) {
  await refused(`${key} API is not supported by the ws transport.`, async () => call());
}

/** The client's own mistake in that method shows; the test's table says what it is. */
function fault(method, shown) {
  if (shown) faults.add(method);
}

/** Waits for something that happens by itself. */
async function until(condition, what) {
  const end = Date.now() + DEADLINE;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

module.exports = { differences, faults, fault, refused, same, unsupported, until };
