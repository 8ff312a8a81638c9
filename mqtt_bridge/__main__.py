from mqtt_bridge.app import App
from mqtt_bridge.settings import Settings
from skep import run

run.main(Settings, App)
