"""Admission: pace, leases, stock, outbox relay, settling, reaping. Any number of copies may run; none leads."""
