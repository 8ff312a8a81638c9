/*
 * What the sections work on: two networks, two device types, a device in each pair of them. All names begin with a
 * prefix, so that programs may run side by side.
 */
const DeviceHive = require('devicehive');

const { Device, DeviceType, Network } = DeviceHive.models;
const { DeviceTypeDeleteQuery, NetworkDeleteQuery } = DeviceHive.models.query;

class World {
  constructor({ mainServiceURL, authServiceURL, pluginServiceURL, login, password, prefix }) {
    this.urls = { mainServiceURL, authServiceURL, pluginServiceURL };
    this.account = { login, password };
    this.prefix = prefix;
    this.http = mainServiceURL.startsWith('http');
    // What a call gives that is answered with nothing.
    this.nothing = this.http ? '' : {};
  }

  /** A connection of its own; `errors` keeps what it emits as such. */
  async connect(credentials = this.account, options = {}) {
    const hive = new DeviceHive({ ...this.urls, ...credentials, ...options });
    hive.errors = [];
    hive.on(DeviceHive.ERROR_EVENT, (error) => hive.errors.push(String(error)));
    return hive.connect();
  }

  /** Another one to send with: quicker. */
  async connectOverWebSocket(credentials) {
    const url = this.urls.mainServiceURL.replace('http', 'ws').replace('/rest', '/websocket');
    return new DeviceHive({ ...this.urls, mainServiceURL: url, ...credentials }).connect();
  }

  async build(api) {
    this.api = api;
    this.networks = {};
    this.types = {};
    this.devices = {};
    for (const n of [1, 2]) {
      const network = new Network({ name: `${this.prefix} network ${n}`, description: `network ${n}` });
      const type = new DeviceType({ name: `${this.prefix} type ${n}`, description: `type ${n}` });
      this.networks[n] = (await api.network.insert(network)).id;
      this.types[n] = (await api.deviceType.insert(type)).id;
    }
    for (const place of ['11', '12', '21', '22']) {
      const [n, t] = place;
      const id = `${this.prefix}-${place}`;
      const data = { place, inner: [1.5, null, 'ü'] };
      const where = { networkId: this.networks[n], deviceTypeId: this.types[t] };
      this.devices[place] = { id, name: `${this.prefix} device ${place}`, data, ...where, isBlocked: false };
      await api.device.add(new Device(this.devices[place]));
    }
  }

  /** A list can't hold several values in this client's query strings; the API takes them with commas. */
  many(...values) {
    return this.http ? values.join(',') : values;
  }

  async erase() {
    for (const n of [1, 2]) {
      await this.api.network.delete(new NetworkDeleteQuery({ networkId: this.networks[n], force: true }));
      await this.api.deviceType.delete(new DeviceTypeDeleteQuery({ deviceTypeId: this.types[n], force: true }));
    }
  }
}

module.exports = World;
