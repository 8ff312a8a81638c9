"""Messages in Hazelcast: maps `skep-notifications` and `skep-commands`, key `<device id>/<message id>`.

Values are Compact, type name `skep.Entry`, with the fields

    deviceId string    networkId, deviceTypeId int64    name, status string    timestamp, lastUpdated int64
    updated boolean    incarnation string    partition int32    offset, born int64    body string

TTL and indexes come from the member's configuration, for both maps: time-to-live-seconds = MESSAGE_TTL,
backup-count 1, in-memory-format BINARY, indexes HASH (deviceId), SORTED (deviceId, timestamp),
SORTED (networkId, timestamp); for `skep-commands` SORTED (deviceId, lastUpdated) too.
"""
