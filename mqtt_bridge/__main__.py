from mqtt_bridge.app import make
from mqtt_bridge.settings import Settings
from skep import run

run.main(Settings, make)
