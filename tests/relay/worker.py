"""What pods run in tests: it writes down, again and again, that it runs, by the clock of the boot.

python worker.py LOG [stubborn]
"""

import os
import signal
import sys
import time

log = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    os.write(log, f"{os.getpid()} {time.clock_gettime(time.CLOCK_BOOTTIME):.4f}\n".encode())
    time.sleep(0.01)
