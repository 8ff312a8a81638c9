"""An author's plugin on the Python template: one line of JSON on stdout for each callback.

HOLD: the name of messages whose callback never returns.
"""

import asyncio
import json
import os
import sys

from skep_plugin import Command, Handler, Notification, run

HOLD = os.environ.get("HOLD")


class Collector(Handler):
    async def on_notification(self, notification: Notification) -> None:
        await self.collect("notification", notification)

    async def on_command(self, command: Command) -> None:
        await self.collect("command", command)

    async def on_command_update(self, command: Command) -> None:
        await self.collect("update", command)

    async def collect(self, kind: str, it: Notification | Command) -> None:
        print(json.dumps([kind, it.device_id, it.name, it.id]), flush=True)
        if it.name == HOLD:
            await asyncio.Event().wait()


sys.exit(run(Collector(), "collector"))
