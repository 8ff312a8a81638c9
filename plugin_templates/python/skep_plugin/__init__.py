"""The part of the template that need not be changed: settings, registration, connection, typed messages.

class Mine(Handler):
    async def on_notification(self, notification): ...

sys.exit(run(Mine(), "my-plugin"))
"""

from skep_plugin.connection import Plugin, run
from skep_plugin.messages import Command, Gap, Handler, Notification
from skep_plugin.settings import Settings, Unusable, get

__all__ = ["Command", "Gap", "Handler", "Notification", "Plugin", "Settings", "Unusable", "get", "run"]
