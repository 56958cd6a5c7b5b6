"""``python -m gateway``."""

from fairline.runtime.process import main
from gateway.app import start
from gateway.settings import GatewaySettings

if __name__ == "__main__":
    main("gateway", GatewaySettings, start)
