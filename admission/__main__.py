"""``python -m admission``."""

from admission.app import start
from admission.settings import AdmissionSettings
from fairline.runtime.process import main

if __name__ == "__main__":
    main("admission", AdmissionSettings, start)
