/*
 * Notes every public method and property of the npm client that is used, and every field of a model or query that is
 * given to a call of the API.
 *
 *   unused()  those not used since this file was loaded, as `controllers/DeviceAPI.list` and `models/query/…(take)`
 *
 * Everything is found by introspection: all classes of the package's src folder, their members without underscore.
 */
const fs = require('fs');
const path = require('path');

const SOURCES = path.join(path.dirname(require.resolve('devicehive')), 'src');
const known = new Set();
const used = new Set();
let calls = 0; // of the API that are being made right now

function sources(folder) {
  return fs.readdirSync(path.join(SOURCES, folder), { withFileTypes: true }).flatMap((entry) => {
    const name = path.join(folder, entry.name);
    return entry.isDirectory() ? sources(name) : [name.replace(/\.js$/, '')];
  });
}

function noting(name, work) {
  known.add(name);
  return function noted(...given) {
    used.add(name);
    return work.call(this, given);
  };
}

function during(work) {
  return function call(given) {
    calls += 1;
    try {
      return work.apply(this, given);
    } finally {
      calls -= 1;
    }
  };
}

/** `toObject`, whose fields count where an API call asks for them. */
function sending(name, work) {
  return function asObject() {
    const fields = work.call(this);
    if (calls > 0) {
      Object.keys(fields).filter((key) => fields[key] !== undefined).forEach((key) => used.add(`${name}(${key})`));
    }
    return fields;
  };
}

function wrap(holder, name, isApi) {
  Object.entries(Object.getOwnPropertyDescriptors(holder)).forEach(([key, member]) => {
    const isOfEveryClass = typeof holder === 'function' && ['prototype', 'length', 'name'].includes(key);
    if (key.startsWith('_') || key === 'constructor' || isOfEveryClass) return;
    const full = `${name}.${key}`;
    if (member.get) {
      const { get, set } = member;
      member.get = noting(`${full} get`, function read() { return get.call(this); });
      if (set) member.set = noting(`${full} set`, function write([value]) { set.call(this, value); });
    } else if (key === 'toObject') {
      member.value = noting(full, sending(name, member.value));
    } else {
      const method = member.value;
      member.value = noting(full, isApi ? during(method) : function run(given) { return method.apply(this, given); });
    }
    Object.defineProperty(holder, key, member);
  });
}

// The classes are taken from the modules and wrapped in place before anything is made of them.
sources('').forEach((name) => {
  const kind = require(path.join(SOURCES, name));
  wrap(kind.prototype, name, name.startsWith('controllers') && name.endsWith('API'));
  wrap(kind, name, false);
  if (name.startsWith('models') && name !== 'models/BaseModel') {
    Object.keys(new kind().toObject()).forEach((key) => known.add(`${name}(${key})`));
  }
});
used.clear();

module.exports = { unused: () => [...known].filter((name) => !used.has(name)).sort() };
