"""The Kafka engine (KRaft, 4.x), on aiokafka's connections, wire structs and record batches.

aiokafka's producer and consumer are not used: its group coordinator sends no `group.instance.id` with heartbeats and
commits, so a member whose place was taken over joins again and takes it back, for ever; its producer retries a
deleted topic without end; neither gives commit metadata back. What the port needs instead is short.
"""

from ws_kafka_proxy.adapters.kafka.engine import KafkaEngine

__all__ = ["KafkaEngine"]
