"""``python -m loadtest.chaos``."""

from loadtest.chaos.main import main

if __name__ == "__main__":
    main()
