from plugin_manager.app import App
from plugin_manager.settings import Settings
from skep import run

run.main(Settings, App)
