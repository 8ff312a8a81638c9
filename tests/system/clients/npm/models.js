/* Models and queries by themselves: every property keeps what it is given, objects and texts have all of it. */
const DeviceHive = require('devicehive');
const { fault, same } = require('./checks');

function accessors(model) {
  const all = Object.getOwnPropertyDescriptors(Object.getPrototypeOf(model));
  return Object.keys(all).filter((key) => all[key].set);
}

function models() {
  const { query, ...entities } = DeviceHive.models;
  Object.values({ ...query, ...entities }).forEach((Model) => {
    const model = new Model();
    const names = accessors(model);
    names.forEach((name) => { model[name] = `a ${name}`; });
    same(names.map((name) => model[name]), names.map((name) => `a ${name}`));
    const values = Object.values(model.toObject());
    same(values.filter((value) => value !== undefined && !names.includes(value.replace('a ', ''))), []);
    same(model.toString(), JSON.stringify(model.toObject()));
    const again = new Model(Object.fromEntries(names.map((name) => [name, `a ${name}`])));
    same(again.toObject(), model.toObject());
    const lost = Object.keys(model.toObject()).filter((key) => model.toObject()[key] === undefined);
    fault(`models/${Model.name}(${lost})`, lost.length > 0);
  });
}

module.exports = { models };
