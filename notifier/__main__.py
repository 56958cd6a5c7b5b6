"""``python -m notifier``."""

from fairline.runtime.process import main
from notifier.app import start
from notifier.settings import NotifierSettings

main("notifier", NotifierSettings, start)
