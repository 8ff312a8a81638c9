"""What Skep's services share, and only that: the wire, the bus client, metadata, rights, the web edge."""

__version__ = "0.1.0"
API_VERSION = "3.5.0"
"""The DeviceHive API version that `/info` and `server/info` report."""
