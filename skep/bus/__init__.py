"""Client of the bus: publish, subscribe, call. Protocol: `skep/wire/proxy.py`; promises: `docs/architecture.md` §2.

    from skep import bus

    b = bus.Bus(urls, service="backend", instance="backend-1", secret=secret)
    await b.start()
    subscription = await b.subscribe("requests", group="backend")
    for event in await subscription.next():
        match event:
            case bus.Assigned(): ...
            case bus.Records(): ...
            case bus.Revoked() | bus.Gap(): ...

Errors: `errors.py`. Deadlines and bounds: `options.py`.
"""

from skep.bus.client import Bus
from skep.bus.counters import Counters
from skep.bus.errors import BusError, Closed, Failed, Refused, TimedOut
from skep.bus.events import Assigned, Event, Gap, Records, Revoked
from skep.bus.options import Options
from skep.bus.serving import Serving
from skep.bus.sources import Sources
from skep.bus.subscription import Subscription
from skep.wire.proxy import Code, Delivered, Source, Start

__all__ = [
    "Assigned",
    "Bus",
    "BusError",
    "Closed",
    "Code",
    "Counters",
    "Delivered",
    "Event",
    "Failed",
    "Gap",
    "Options",
    "Records",
    "Refused",
    "Revoked",
    "Serving",
    "Source",
    "Sources",
    "Start",
    "Subscription",
    "TimedOut",
]
