"""The local stack: real servers and the four services as child processes, with their data in one folder."""
