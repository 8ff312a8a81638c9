"""The broker's side: connections of paho-mqtt on asyncio."""
