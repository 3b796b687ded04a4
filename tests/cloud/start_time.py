#!/usr/bin/env python3
"""Measures how long the functions take to start, and their memory after that.

    start_time.py [--runs N] DIR

DIR is as cargo-lambda writes it, built for this machine: DIR/ingest/bootstrap, and so on. Each is started N times (20 if
not given) against a runtime API on this machine that never hands out work. A line for each function: milliseconds from the
start of the process to its first request for work (least, median, most), and resident memory at that moment. No network is
needed: a function makes no calls before it has work.
"""

import argparse
import http.server
import os
import pathlib
import queue
import re
import statistics
import subprocess
import sys
import threading
import time

VARIABLES = {
    "AWS_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_LAMBDA_FUNCTION_NAME": "ses-breaker-test",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
    "AWS_LAMBDA_LOG_GROUP_NAME": "test",
    "AWS_LAMBDA_LOG_STREAM_NAME": "test",
    "LEDGER_TABLE": "test-ledger",
    "REPUTATION_TABLE": "test-reputation",
    "ALERT_TOPIC_ARN": "arn:aws:sns:eu-west-1:123456789012:test-alerts",
    "EVENT_BUS_NAME": "default",
    "GATE_IN_USE": "false",
    "LOG_LEVEL": "info",
}


class RuntimeApi(http.server.BaseHTTPRequestHandler):
    """Records when a function asks for work, and never answers."""

    asked = queue.Queue()

    def do_GET(self):
        RuntimeApi.asked.put(time.perf_counter())
        # Until the function is killed.
        self.rfile.read(1)

    def log_message(self, *_arguments):
        pass


def start(bootstrap, address):
    """Starts a function once. Returns seconds until it asked for work, and KiB of resident memory then."""
    variables = {**VARIABLES, "AWS_LAMBDA_RUNTIME_API": address}
    began = time.perf_counter()
    with subprocess.Popen([bootstrap], env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            asked = RuntimeApi.asked.get(timeout=10)
            status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
        finally:
            process.kill()
    return asked - began, int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="DIR", type=pathlib.Path)
    parser.add_argument("--runs", type=int, default=20, metavar="N")
    arguments = parser.parse_args()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), RuntimeApi)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    bootstraps = sorted(arguments.folder.glob("*/bootstrap"))
    if not bootstraps:
        print(f"start_time.py: no bootstrap in {arguments.folder}: build the functions first", file=sys.stderr)
        return 1
    for bootstrap in bootstraps:
        try:
            runs = [start(bootstrap, f"127.0.0.1:{server.server_port}") for _ in range(arguments.runs)]
        except (OSError, queue.Empty) as error:
            print(f"start_time.py: {bootstrap} never asks for work: {error!r}", file=sys.stderr)
            return 1
        times = sorted(seconds * 1000 for seconds, _ in runs)
        memory = statistics.median(kilobytes for _, kilobytes in runs) / 1024
        size = os.stat(bootstrap).st_size / 1e6
        print(
            f"{bootstrap.parent.name:10} {times[0]:5.1f} {statistics.median(times):5.1f} {times[-1]:5.1f} ms"
            f"  {memory:5.1f} MiB resident  {size:5.1f} MB on disk"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
