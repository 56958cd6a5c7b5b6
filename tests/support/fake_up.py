"""``fairline up`` with real servers and fake services.

Started as ``python -m tests.support.fake_up --data DATA [--detach]``.
"""

import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path

from fairline.local import detach
from fairline.local.errors import StackError
from fairline.local.run import Options, Run
from fairline.local.services import SERVICES, Step

FAKE = str(Path(__file__).with_name("fake_service.py"))


def options(data: Path) -> Options:
    services = [replace(service, argv=(sys.executable, FAKE, service.name)) for service in SERVICES]
    return Options(data=str(data), services=services, steps=[Step(name="migrations", argv=("true",))])


def main() -> None:
    wanted = options(Path(sys.argv[sys.argv.index("--data") + 1]))
    try:
        if "--detach" in sys.argv:
            print(detach.start(wanted, os.environ))  # noqa: T201
        else:
            asyncio.run(Run(wanted, os.environ, print).serve(ready=print))
    except StackError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
