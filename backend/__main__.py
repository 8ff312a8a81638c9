from backend.app import App
from backend.settings import Settings
from skep import run

if __name__ == "__main__":
    run.main(Settings, App)
