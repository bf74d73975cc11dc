"""The service of `tests/delivery/service.py` for the tests of this folder."""

from tests.delivery.service import other_service, service

__all__ = ["other_service", "service"]
