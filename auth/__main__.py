from auth.app import App
from auth.settings import Settings
from skep import run

run.main(Settings, App)
