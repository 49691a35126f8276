import sys

from rahf.bin import interrupts, standard_streams

if sys.argv[:1] == ["-m"]:  # python -m rahf.bin.NAME is looking for NAME
    standard_streams.open_closed()
    interrupts.install()
