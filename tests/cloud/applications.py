#!/usr/bin/env python3
"""Runs the examples for applications in infra/applications against an emulated SES.

    applications.py --work DIR

Run it with the Python of an environment that has applications-requirements.txt installed. DIR keeps the packages of Node between
runs. Python, Django, Node and nodemailer run against the emulated SES, and so does Go where Debian's packages of its SDK are
installed. PHP, Ruby and Java run with stand-ins for the SDK, where their interpreter or compiler is installed; of the jobs for
Laravel and Rails only the syntax is checked. What cannot be checked here is named, and is no failure.

Exit codes: 0 success, 1 failed.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
TESTS = HERE / "applications"
EXAMPLES = HERE.parents[1] / "infra" / "applications"
# Where Debian installs sources in Go: golang-github-aws-aws-sdk-go-v2-dev.
GO_SOURCES = pathlib.Path("/usr/share/gocode")


class Checks:
    """Runs programs, and counts what came of it."""

    def __init__(self, environment):
        self.environment = environment
        self.passed, self.failed, self.skipped = 0, 0, 0

    def run(self, what, *command, cwd=None, **variables):
        command = [str(part) for part in command]
        environment = self.environment | {name: str(value) for name, value in variables.items()}
        ended = subprocess.run(command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
        if ended.returncode == 0:
            self.passed += 1
            print(f"passed   {what}")
        else:
            self.failed += 1
            print(f"FAILED   {what}: {' '.join(command)}: exit code {ended.returncode}\n{ended.stdout}")

    def skip(self, what, missing):
        self.skipped += 1
        print(f"skipped  {what}: {missing} is not installed")

    def with_program(self, what, program, *arguments, **options):
        if shutil.which(program):
            self.run(what, program, *arguments, **options)
        else:
            self.skip(what, program)


def python(checks):
    for name, folder in [("test_python", "python"), ("test_django", "django")]:
        # By its own path only: the example for Django lies in a folder of that name.
        path = os.pathsep.join(map(str, [TESTS, EXAMPLES / folder]))
        checks.run(f"{folder}: against the emulated SES", sys.executable, "-m", "unittest", name, cwd=TESTS, PYTHONPATH=path)


def node(checks, work):
    if not shutil.which("npm"):
        return checks.skip("node, nodemailer: against the emulated SES", "npm")
    folder = work / "node"
    folder.mkdir(parents=True, exist_ok=True)
    lock = (TESTS / "package-lock.json").read_bytes()
    installed = folder / "installed.json"
    # Written last, so that half an installation is none.
    if not installed.is_file() or installed.read_bytes() != lock:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(TESTS / name, folder)
        # The tests that are copied get none of these variables' endpoint: npm has its own.
        npm = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run(npm, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        installed.write_bytes(lock)
    # Node looks for packages beside the file that imports them.
    shutil.copy(TESTS / "node.test.mjs", folder)
    for name in ("node", "nodemailer"):
        shutil.copytree(EXAMPLES / name, folder / name, dirs_exist_ok=True)
    checks.run("node, nodemailer: against the emulated SES", "node", "--test", "node.test.mjs", cwd=folder)


def go(checks, work):
    what = "go: against the emulated SES"
    if not shutil.which("go"):
        return checks.skip(what, "go")
    if not (GO_SOURCES / "src/github.com/aws/aws-sdk-go-v2/service/sesv2").is_dir():
        return checks.skip(what, "golang-github-aws-aws-sdk-go-v2-dev")
    folder = work / "go/src/mail"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(EXAMPLES / "go/sender.go", folder)
    shutil.copy(TESTS / "sender_test.go", folder)
    variables = {"GO111MODULE": "off", "GOFLAGS": "", "GOPATH": f"{work / 'go'}{os.pathsep}{GO_SOURCES}", "GOCACHE": work / "go/cache"}
    checks.run("go: vet", "go", "vet", "mail", **variables)
    checks.run(what, "go", "test", "mail", **variables)
    checks.run("go: format", "sh", "-c", 'test -z "$(gofmt -l .)"', cwd=folder)


def java(checks, work):
    what = "java: with a stand-in for the SDK"
    if not shutil.which("javac"):
        return checks.skip(what, "javac")
    classes = work / "java"
    shutil.rmtree(classes, ignore_errors=True)
    sources = [EXAMPLES / "java/Sender.java", *sorted((TESTS / "java").rglob("*.java"))]
    checks.run("java: compiles", "javac", "-Xlint:all", "-d", classes, *sources)
    checks.run(what, "java", "-ea", "-cp", classes, "SenderTest")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, metavar="DIR", type=pathlib.Path)
    work = parser.parse_args().work.resolve()
    log = work / "emulator.log"
    work.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    emulator = subprocess.Popen([sys.executable, HERE / "emulator.py", "start", "--log", log], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, text=True)
    try:
        line = emulator.stdout.readline()
        if not line:
            print(f"the emulator did not start:\n{log.read_text()}", file=sys.stderr)
            return 1
        ready = json.loads(line)
        variables = {
            "AWS_ENDPOINT_URL": ready["endpoint"],
            "AWS_REGION": ready["region"],
            "AWS_DEFAULT_REGION": ready["region"],
            "AWS_ACCESS_KEY_ID": ready["account"],
            "AWS_SECRET_ACCESS_KEY": "test",
        }
        # Nothing of this machine's own configuration of AWS.
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        checks = Checks(kept | variables | {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull})
        python(checks)
        node(checks, work)
        go(checks, work)
    finally:
        emulator.stdin.close()
        ended = emulator.wait()
    if ended:
        print(f"FAILED   the emulator ended with {ended}:\n{log.read_text()[-4000:]}")
        checks.failed += 1
    java(checks, work)
    checks.with_program("php: with a stand-in for the SDK", "php", TESTS / "sender_test.php", EXAMPLES / "php/Sender.php")
    checks.with_program("ruby: with a stand-in for the SDK", "ruby", "-w", "-I", TESTS / "ruby", TESTS / "sender_test.rb",
                        EXAMPLES / "ruby/sender.rb")
    checks.with_program("laravel: syntax", "php", "-l", EXAMPLES / "laravel/KeepWhileStopped.php")
    checks.with_program("rails: syntax", "ruby", "-wc", EXAMPLES / "rails/mail_delivery_job.rb")
    print(f"{checks.passed} passed, {checks.failed} failed, {checks.skipped} skipped")
    return 1 if checks.failed else 0


if __name__ == "__main__":
    sys.exit(main())
