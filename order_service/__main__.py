"""``python -m order_service``."""

from fairline.runtime.process import main
from order_service.app import start
from order_service.settings import OrderServiceSettings

if __name__ == "__main__":
    main("order_service", OrderServiceSettings, start)
