"""`python -m ws_kafka_proxy`"""

from skep import run
from ws_kafka_proxy import app
from ws_kafka_proxy.settings import Settings

if __name__ == "__main__":
    run.main(Settings, app.make)
