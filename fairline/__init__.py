"""Fairline's shared kernel: the words that gateway, admission, order_service and notifier meet in."""
