"""`python -m frontend`."""

from frontend.app import App
from frontend.settings import Settings
from skep import run

if __name__ == "__main__":
    run.main(Settings, App)
