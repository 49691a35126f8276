import sys

from rahf.bin import interrupts

if sys.argv[:1] == ["-m"]:  # python -m rahf.bin.NAME is looking for NAME
    interrupts.install()
