"""What locust loads: ``locust -f loadtest/locustfile.py``. The buyer is in ``loadtest.buyers``."""

from loadtest.buyers import Buyer

__all__ = ["Buyer"]
